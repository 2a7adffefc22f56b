use super::*;
use crate::image::{Word, read};
use proptest::prelude::*;

fn recipe() -> Recipe {
    Recipe { base: "alpine:3.20".into(), packages: BTreeSet::new(), instructions: vec![], services: BTreeMap::new() }
}

fn strings<const N: usize>(all: [&str; N]) -> Vec<String> {
    all.map(str::to_owned).into()
}

#[test]
fn the_platform_s_part_comes_before_the_people_s() {
    let all = Recipe {
        packages: strings(["git", "bash"]).into_iter().collect(),
        instructions: read("RUN true\nUSER dev").unwrap().iter().map(|e| e.filled(&BTreeMap::new())).collect(),
        services: BTreeMap::from([("web".to_owned(), Recipe::service_script("exec httpd -f", &BTreeMap::new()))]),
        ..recipe()
    };
    let lines: Vec<String> = all.dockerfile().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0], "FROM alpine:3.20");
    assert!(lines[1].starts_with("RUN [\"/bin/sh\",\"-c\",\"set -e\\n") && lines[1].ends_with("\"sh\",\"bash\",\"git\"]"));
    assert!(lines[2].contains("/init"));
    assert_eq!(lines[3..], ["COPY services.d /etc/services.d", r#"RUN ["/bin/sh","-c","true","sh"]"#, "USER dev"]);
    let files = all.files();
    assert_eq!((files[1].path.as_str(), files[1].executable), ("services.d/web/run", true));
    assert_eq!(files[1].content, "#!/bin/sh\nexec 2>&1\nexec httpd -f");
    assert_eq!((files[2].path.as_str(), files[2].executable), ("services.d/web/log/run", true));
    assert!(files[2].content.ends_with(" /var/log/services/web\n"), "{}", files[2].content);
}

#[test]
fn a_recipe_s_name_stands_for_all_that_is_in_it() {
    let plain = recipe();
    assert!(plain.is_plain());
    let mut others = vec![plain.clone()];
    others.push(Recipe { base: "alpine:3.21".into(), ..plain.clone() });
    others.push(Recipe { packages: strings(["git"]).into_iter().collect(), ..plain.clone() });
    for (name, script) in [("a", "b"), ("ab", ""), ("b", "b")] {
        others.push(Recipe { services: BTreeMap::from([(name.to_owned(), script.to_owned())]), ..plain.clone() });
    }
    let tags: BTreeSet<String> = others.iter().map(Recipe::tag).collect();
    assert_eq!(tags.len(), others.len());
    assert!(tags.iter().all(|t| t.len() == "devsanctum/env:".len() + 32));
    assert_eq!(plain.tag(), recipe().tag());
}

#[test]
fn a_service_gets_its_options_as_variables() {
    let given = BTreeMap::from([("PORT".to_owned(), "80'; touch /x; '".to_owned())]);
    let script = Recipe::service_script("exec server --port {{option.PORT}} {{option.NONE}}\n", &given);
    assert_eq!(
        script,
        "#!/bin/sh\nexec 2>&1\nexport OPTION_NONE=''\nexport OPTION_PORT='80'\\''; touch /x; '\\'''\n\
         exec server --port \"${OPTION_PORT}\" \"${OPTION_NONE}\"\n"
    );
}

/// What Docker makes of a printed `ENV`: its names.
fn names(line: &str) -> Vec<String> {
    let (mut all, mut name, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in line.strip_prefix("ENV ").unwrap().chars() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '=' => all.push(std::mem::take(&mut name)),
            ' ' => {}
            c => name.push(c),
        }
    }
    assert!(!quoted && name.is_empty(), "{line}");
    all
}

proptest! {
    /// Values of any kind, in every place that takes one, add no instruction, no argument and no variable.
    #[test]
    fn no_value_gets_out_of_its_place(
        packages in prop::collection::btree_set(any::<String>(), 1..4),
        value in any::<String>(), other in "[\\PC\\n\\r\"'\\\\$<>\\]\\[{}#]{0,40}", argument in any::<String>(),
    ) {
        let given = BTreeMap::from([("X".to_owned(), value.clone()), ("Y".to_owned(), other.clone())]);
        let text = "RUN a {{option.X}} '{{option.Y}}'\nRUN [\"b\", \"{{option.Y}}\"]\nENV A={{option.X}} B=\"{{option.Y}}\" C=$A";
        let mut instructions: Vec<_> = read(text).unwrap().iter().map(|e| e.filled(&given)).collect();
        instructions.push(Instruction::Run(vec![argument.clone()]));
        instructions.push(Instruction::Env(vec![("D".into(), Word::text(&value)), ("E".into(), Word::text(&other))]));
        let all = Recipe { packages: packages.clone(), instructions, ..recipe() };
        let printed = all.dockerfile();
        let lines: Vec<&str> = printed.split('\n').collect();
        prop_assert_eq!(lines.len(), 8, "{}", printed);
        prop_assert!(!printed.contains('\r') && !printed.contains('\0'));
        // A here-document would begin with it.
        prop_assert!(lines.iter().filter(|line| line.starts_with("RUN")).all(|line| !line.contains("<<")));
        let argv = |line: &str| serde_json::from_str::<Vec<String>>(line.strip_prefix("RUN ").unwrap()).unwrap();
        prop_assert_eq!(&argv(lines[1])[4..], packages.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(&argv(lines[2])[4..], &[value, other.clone()]);
        prop_assert_eq!(argv(lines[3]), ["b".to_owned(), other]);
        prop_assert_eq!(names(lines[4]), ["A", "B", "C"]);
        prop_assert_eq!(argv(lines[5]), [argument]);
        prop_assert_eq!(names(lines[6]), ["D", "E"]);
    }
}
