//! Arguments in, exit code out.

/// Activations are large and short-lived: the system's allocator would give their pages back and
/// fetch them again at every layer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    slim::cli::run()
}
