//! What the configuration gives a build, and what goes before it.

use crate::support::{Context, Finished, Rstore};

#[test]
fn a_build_takes_from_the_configuration_what_its_command_line_and_environment_leave_open() {
    let store = Rstore::with_base();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let text = "[build]\nprogress = 'rawjson'\ncompression = 'zstd'\njobs = 1\n";
    std::fs::write(&file, text).unwrap();
    let build = |name: &str, variable: Option<(&str, &str)>, arguments: &[&str]| {
        let context = Context::new(&format!("FROM base\nRUN echo {name} > /{name}\n"));
        let mut command = store.command();
        command.env("RSTORE_CONFIG", &file).envs(variable);
        command.args(["build", "-t", name]).args(arguments);
        let output = command.arg(context.path()).output().expect("rstore runs");
        let built = Finished::new(&command, &output).ok();
        let manifest = store.manifest(&format!("{name}:latest"));
        let layers = manifest["layers"].as_array().unwrap();
        let media_type = layers.last().unwrap()["mediaType"].as_str().unwrap();
        (built.stderr, media_type.to_owned())
    };
    let (told, layer) = build("file", None, &[]);
    assert!(
        told.starts_with("{\"") && layer.ends_with("+zstd"),
        "{layer} {told}"
    );
    let (told, layer) = build("flags", None, &["--progress=plain", "--compression=gzip"]);
    assert!(
        told.starts_with('#') && layer.ends_with("+gzip"),
        "{layer} {told}"
    );
    let (told, _) = build("ours", Some(("RSTORE_PROGRESS", "plain")), &[]);
    assert!(told.starts_with('#'), "{told}");
    let (told, _) = build("buildkits", Some(("BUILDKIT_PROGRESS", "plain")), &[]);
    assert!(told.starts_with('#'), "{told}");
    // An output that asks for something else is no contradiction.
    let spec = format!(
        "type=oci,dest={},compression=gzip",
        directory.path().join("o.tar").display()
    );
    let (_, layer) = build("output", None, &["-o", &spec]);
    assert!(layer.ends_with("+gzip"), "{layer}");
}
