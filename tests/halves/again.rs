//! Files whose layers lack halves are models like others: pruned again, converted, scored.

use crate::{as_gguf, as_type, golden, logits, pruned, whole_logits, without};
use slim::arch::{Arch, Half, Part};
use slim::checkpoint::Checkpoint;
use slim::verify::{check_pair, check_structure};

#[test]
fn more_can_go_of_a_file_with_half_layers() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama_bias", "qwen2"] {
        let whole = Checkpoint::open(&as_gguf(&golden(name), "f32", folder.path())).unwrap();
        let first = folder.path().join("first.gguf");
        pruned(whole.path(), "1:attention,3:mlp", &as_type("keep"), &first).unwrap();
        for (then, all) in [
            ("2", "1:attention,2,3:mlp"),
            ("1", "1,3:mlp"),
            ("3", "1:attention,3"),
            ("2:attention", "1-2:attention,3:mlp"),
            ("0:mlp,2:mlp", "0:mlp,1:attention,2:mlp,3:mlp"),
        ] {
            let second = folder.path().join("second.gguf");
            let ours = pruned(&first, then, &as_type("keep"), &second).unwrap();
            check_structure(&ours).unwrap();
            check_pair(&whole, &ours).unwrap();
            let expected = logits(&whole, &without(&whole, all), false);
            assert!(whole_logits(&ours, false) == expected, "{name}: {then}");
        }
    }
}

#[test]
fn a_file_with_half_layers_says_which_lack_what() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("halves.gguf");
    let dropped = "0,1:mlp,3:attention";
    let ours = pruned(&golden("mistral"), dropped, &as_type("q8_0"), &target).unwrap();
    let part = |layer, half| Part {
        layer,
        half: Some(half),
    };
    let lacking = Arch::of(&ours).unwrap().lacking(&ours).unwrap();
    assert_eq!(lacking, [part(0, Half::Mlp), part(2, Half::Attention)]);
    let whole = Checkpoint::open(&golden("mistral")).unwrap();
    assert!(
        Arch::of(&whole)
            .unwrap()
            .lacking(&whole)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_layer_without_attention_is_never_chosen_to_be_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("halves.gguf");
    let dropped = "1-2:attention";
    let ours = pruned(&golden("llama"), dropped, &as_type("keep"), &target).unwrap();
    let layers = Arch::of(&ours).unwrap().layers(&ours).unwrap();
    let (all, costs) = (without(&ours, "none"), [1.0; 4]);
    assert_eq!(layers.group(0, &all, &costs, &[]), [0, 1, 2]);
    assert_eq!(layers.group(1, &all, &costs, &[]), [1]);
    for (gone, allowed) in [("0", false), ("0-1", false), ("0-2", true), ("1-2", true)] {
        let keep = without(&ours, gone);
        assert_eq!(layers.allows(&keep), allowed, "{gone}");
        assert_eq!(layers.check(&keep).is_ok(), allowed, "{gone}");
    }
}

#[test]
fn the_type_of_a_file_with_half_layers_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let dropped = "1:attention,2:mlp";
    let exact = pruned(
        &golden("qwen2"),
        dropped,
        &as_type("f32"),
        &path("f32.gguf"),
    )
    .unwrap();
    let direct = pruned(
        &golden("qwen2"),
        dropped,
        &as_type("q8_0"),
        &path("q8.gguf"),
    )
    .unwrap();
    let later = pruned(exact.path(), "none", &as_type("q8_0"), &path("later.gguf")).unwrap();
    assert_eq!(whole_logits(&later, false), whole_logits(&direct, false));
}
