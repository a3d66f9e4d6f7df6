//! Chat templates that mean harm: each is refused, and none costs more memory than an honest one
//! might.
//!
//! The one test of this binary: it counts every byte that the process allocates.

use slim::convert::vocabulary::{ChatTemplate, Message, Speaker};

#[path = "support/counting.rs"]
mod counting;

/// The budget's bytes, in a growing buffer, and what a long source compiles to.
const MOST: usize = 96 << 20;

/// What one piece of text in a template would do.
fn attacks() -> Vec<(&'static str, String)> {
    let doubled = |start: &str, step: &str, times: usize, end: &str| {
        format!(
            "{{% set ns = namespace(x={start}, y={start}) %}}{{% for i in range({times}) %}}\
             {{% set ns.x = {step} %}}{{% endfor %}}{end}"
        )
    };
    let a = "{% set a = 'x' * 1000000 %}";
    vec![
        ("a long loop", "{% for i in range(10**9) %}{% endfor %}".into()),
        (
            "a loop in a loop",
            "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}".into(),
        ),
        (
            "macros that call each other",
            "{% macro f(n) %}{{ g(n) }}{{ g(n) }}{% endmacro %}\
             {% macro g(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}"
                .into(),
        ),
        (
            "a macro that branches as deep as it may",
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}".into(),
        ),
        ("a long text", "{{ 'x' * 10**9 }}".into()),
        ("a long text, unseen", "{% if 'x' * 10**9 %}{% endif %}".into()),
        ("doubling", doubled("'xy'", "ns.x ~ ns.x", 60, "{{ ns.x }}")),
        ("doubling by a filter", doubled("'xy'", "ns.x | replace('x', 'xyxx')", 60, "")),
        ("doubling by a method", doubled("'xy'", "ns.x.replace('x', 'xyxx')", 60, "")),
        ("squaring", format!("{a}{{{{ a.replace('x', a) }}}}")),
        ("squaring with the empty text", format!("{a}{{{{ a.replace('', a) }}}}")),
        ("joining", format!("{a}{{{{ a.join(range(90000)) }}}}")),
        ("joining a text", format!("{a}{{{{ a | join(a) }}}}")),
        ("splitting", "{% for i in range(90000) %}{% set b = ('a ' * 5000000).split() %}{% endfor %}".into()),
        ("a wide field", "{{ '{:>1000000000}'.format(1) }}".into()),
        ("many wide fields", "{{ ('{0:>90000}' * 90000).format(1) }}".into()),
        ("many fields", format!("{a}{{{{ ('{{0}}' * 90000).format(a) }}}}")),
        ("a wide filter field", "{{ '%1000000000d' | format(1) }}".into()),
        ("a list as text", "{{ ([1] * 10**8) | string }}".into()),
        ("a list as JSON", "{{ ([1] * 10**8) | tojson }}".into()),
        ("a list as output", "{{ [1] * 10**8 }}".into()),
        ("a list as a list", "{{ ([1] * 10**8) | list | length }}".into()),
        ("an indent", format!("{a}{{{{ [[[1]]] | tojson(indent=a) }}}}{{{{ (['x'] * 90000) | tojson(indent=a) }}}}")),
        ("shared lists as text", doubled("[1]", "[ns.x, ns.x]", 60, "{{ ns.x | string }}")),
        ("shared lists as JSON", doubled("[1]", "[ns.x, ns.x]", 60, "{{ ns.x | tojson }}")),
        ("shared lists as output", doubled("[1]", "[ns.x, ns.x]", 60, "{{ ns.x }}")),
        ("a large number", "{{ 10 ** 10 ** 10 }}".into()),
        ("an endless date", "{{ strftime_now('%Y' * 10**8) }}".into()),
        ("brackets", format!("{{{{ {}{} }}}}", "(".repeat(90_000), ")".repeat(90_000))),
        ("many ifs", "{% if x %}".repeat(20_000)),
    ]
}

/// What the engine does not count: given up, not ended, and left behind until the process ends.
fn endless() -> Vec<String> {
    let shared = |end: &str| {
        format!(
            "{{% set ns = namespace(x=[1], y=[1]) %}}{{% for i in range(60) %}}\
             {{% set ns.x = [ns.x, ns.x] %}}{{% set ns.y = [ns.y, ns.y] %}}{{% endfor %}}{end}"
        )
    };
    vec![shared("{{ ns.x == ns.y }}"), shared("{{ ns.x ~ 'x' }}")]
}

/// Templates of no harm, but of a depth that a small stack would not hold.
fn deep() -> Vec<String> {
    let nested = |step: &str| {
        format!(
            "{{% set ns = namespace(x=[1]) %}}{{% for i in range(40000) %}}{{% set ns.x = {step} %}}\
             {{% endfor %}}{{{{ (ns.x ~ '') | length }}}}"
        )
    };
    vec![
        nested("[ns.x]"),
        nested("{'a': ns.x}"),
        format!("{{{{ {}1 }}}}", "not ".repeat(60_000)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(20_000)),
        format!("{{{{ 1{} }}}}", "|string".repeat(30_000)),
    ]
}

fn render(source: String) -> Result<String, String> {
    let messages = [Message::new(Speaker::User, "hello")];
    let template = ChatTemplate::new("default", source, Vec::new());
    let rendered = template.and_then(|template| template.render(&messages, true));
    rendered.map_err(|error| error.to_string())
}

#[test]
fn no_template_takes_more_memory_than_its_budget_or_the_whole_stack() {
    let mut failures = Vec::new();
    for source in deep() {
        let start: String = source.chars().take(60).collect();
        if let Err(error) = render(source) {
            failures.push(format!("{start}: {error}"));
        }
    }
    for (name, source) in attacks() {
        let mut told = Ok(String::new());
        let cost = counting::peak_of(|| told = render(source));
        println!("{name}: {} kB, {told:.120?}", cost >> 10);
        match told {
            Ok(text) => failures.push(format!("{name}: rendered {} bytes", text.len())),
            Err(_) if cost > MOST => failures.push(format!("{name}: {} MB", cost >> 20)),
            Err(_) => {}
        }
    }
    for source in endless() {
        match render(source) {
            Err(told) if told.contains("it was still running") => {}
            other => failures.push(format!("an endless template: {other:?}")),
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
