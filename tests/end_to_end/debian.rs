//! A real distribution: a C program compiled in one stage and run in the next.

use crate::support::{Context, Need, Rstore, debian_tar, skip_without};

#[test]
fn a_c_program_is_compiled_on_debian_and_runs_in_the_next_stage() {
    if skip_without(&[Need::Root, Need::Program("debootstrap")]) {
        return;
    }
    let store = Rstore::new();
    store.import(&debian_tar(), "debian:test");
    let context = Context::new(
        "FROM debian:test AS compiler\n\
         WORKDIR /src\n\
         COPY *.c ./\n\
         RUN tcc -o /usr/local/bin/greet greet.c && dpkg --audit && perl -e 'print \"perl runs\\n\"'\n\
         FROM debian:test\n\
         RUN useradd --create-home runner && mkdir /results && chown runner /results\n\
         COPY --from=compiler /usr/local/bin/greet /usr/local/bin/\n\
         USER runner\n\
         RUN greet | tee /results/said && test \"$(stat -c %U /results/said)\" = runner\n\
         CMD [\"greet\"]\n",
    );
    let program = "#include <stdio.h>\n#include <unistd.h>\n\
                   int main(void) { printf(\"greetings from %d\\n\", (int) getuid()); return 0; }\n";
    context.file("greet.c", program);
    let built = store.build(context.path(), &["-t", "greet"]);
    assert!(built.stderr.contains("greetings from 1000"), "{built}");
    assert!(built.stderr.contains("perl runs"), "{built}");
    let again = store.build(context.path(), &["-t", "greet"]);
    assert_eq!(again.ran(), 0, "{again}");
    context.file("greet.c", program.replace("greetings", "hello"));
    let changed = store.build(context.path(), &["-t", "greet"]);
    assert!(changed.stderr.contains("hello from 1000"), "{changed}");
    // useradd stands before the program is copied.
    assert_eq!(changed.ran(), 2, "{changed}");
    store.ok(["prune", "-f"]);
    store.verify();
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
}
