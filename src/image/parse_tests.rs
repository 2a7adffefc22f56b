use super::*;

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// What is printed of a text, with these options.
fn printed(text: &str, options: &[(&str, &str)]) -> Vec<String> {
    read(text).unwrap().iter().map(|extra| extra.filled(&given(options)).to_string()).collect()
}

fn refused(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn lines_go_on_comments_go_and_keywords_are_in_any_case() {
    let text = "# what this does\n\nrun apk add \\\n  # for builds\n\n    gcc \\\t\n  make\nWorkDir /srv/app\n  USER dev:dev\n";
    assert_eq!(printed(text, &[]), [r#"RUN ["/bin/sh","-c","apk add     gcc   make","sh"]"#, "WORKDIR /srv/app", "USER dev:dev"]);
}

#[test]
fn a_json_array_is_a_program_and_anything_else_a_script() {
    assert_eq!(printed(r#"RUN ["a", "b\nc"]"#, &[]), [r#"RUN ["a","b\nc"]"#]);
    assert_eq!(printed("RUN [ -x /init ] && echo 'ok'", &[]), [r#"RUN ["/bin/sh","-c","[ -x /init ] && echo 'ok'","sh"]"#]);
}

#[test]
fn env_is_read_as_docker_reads_it() {
    let text = r#"ENV A=b C="d e" F='$g "h"' PATH=/opt/bin:$PATH I=${J}x K=a\ b L="q\"\$\x" M="#;
    assert_eq!(
        printed(text, &[]),
        [r#"ENV A="b" C="d e" F="\$g \"h\"" PATH="/opt/bin:${PATH}" I="${J}x" K="a b" L="q\"\$\\x" M="""#]
    );
}

#[test]
fn options_are_arguments_of_scripts_and_text_elsewhere() {
    let text = "RUN install --version {{option.V}} '{{option.W}}'\nRUN [\"/i\", \"{{option.V}}\"]\nENV V=\"v{{option.V}}\" W={{option.W}}";
    assert_eq!(
        printed(text, &[("V", "1\" && $x"), ("W", "it's")]),
        [
            "RUN [\"/bin/sh\",\"-c\",\"export OPTION_V=\\\"$1\\\"; shift; export OPTION_W=\\\"$1\\\"; shift; install --version \
             \\\"${OPTION_V}\\\" ''\\\"${OPTION_W}\\\"''\",\"sh\",\"1\\\" && $x\",\"it's\"]",
            r#"RUN ["/i","1\" && $x"]"#,
            r#"ENV V="v1\" && \$x" W="it's""#,
        ]
    );
    let named: Vec<_> = read(text).unwrap().iter().map(|e| e.options().into_iter().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(named, ["V W", "V", "V W"]);
}

#[test]
fn a_script_does_with_its_options_what_it_says() {
    let text = "RUN printf '<%s>' {{option.A}} \"{{option.B}}\" {{option.A}} {{option.C}} \"$#\"";
    let hostile = "'; exit 9; \"$(exit 9)";
    let Instruction::Run(argv) = read(text).unwrap()[0].filled(&given(&[("A", hostile), ("B", "b  b")])) else { panic!() };
    let done = std::process::Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("<{hostile}><b  b><{hostile}><><0>"));
}

#[test]
fn what_is_not_read_is_refused_at_its_line_with_what_to_do() {
    for (text, says) in [
        ("RUN true\n\nFROM scratch", "line 3: FROM is not read here: the image is given in 'base'"),
        ("COPY a b", "fetch them in a RUN"),
        ("ADD http://x /y", "fetch them in a RUN"),
        ("CMD [\"x\"]", "startCommand"),
        ("ENTRYPOINT x", "startCommand"),
        ("EXPOSE 80", "give 'ports'"),
        ("VOLUME /x", "give 'folders'"),
        ("ARG X=1", "give an option"),
        ("LABEL devsanctum.io/uid=x", "labels are the platform's"),
        ("ONBUILD RUN x", "RUN, ENV, WORKDIR and USER are"),
        ("SHELL [\"/bin/bash\"]", "RUN, ENV, WORKDIR and USER are"),
        ("HEALTHCHECK NONE", "RUN, ENV, WORKDIR and USER are"),
        ("RUN cat <<EOF\nhello\nEOF", "line 2: hello needs"),
        ("RUN <<EOF\necho x\nEOF", "line 2: ECHO is not read here"),
        ("RUN", "RUN needs something to work on"),
        ("RUN []", "RUN needs a program"),
        ("RUN --mount=type=cache,target=/x true", "flags of RUN are not read"),
        ("RUN a\u{b}b", "control characters"),
        ("# syntax=docker/dockerfile:1\nRUN x", "line 1: directives"),
        ("#escape = `\nRUN x", "line 1: directives"),
        ("ENV A", "ENV must be NAME=value"),
        ("ENV A b", "ENV must be NAME=value"),
        ("ENV A = b", "ENV must be NAME=value"),
        ("ENV 1A=b", "ENV must be NAME=value"),
        ("ENV A=b c", "ENV must be NAME=value"),
        ("ENV A=\"b", "a quote is not closed"),
        ("ENV A=${B:-c}", "without ':-'"),
        ("ENV A=$", "'\\$'"),
        ("WORKDIR /a b", "WORKDIR must be letters"),
        ("WORKDIR $HOME", "WORKDIR must be letters"),
        ("USER dev{{option.X}}", "USER must be letters"),
    ] {
        let said = refused(text);
        assert!(said.contains(says), "{text:?}: {said}");
    }
    // Further down it is a remark.
    assert_eq!(printed("RUN a\n# syntax=x", &[]).len(), 1);
}

#[test]
fn nothing_is_taken_for_a_flag_and_no_argument_has_an_end_of_its_own() {
    for text in ["WORKDIR --chown=x", "USER -x", "RUN [\"a\", \"b\\u0000c\"]"] {
        assert!(read(text).is_err(), "{text}");
    }
}
