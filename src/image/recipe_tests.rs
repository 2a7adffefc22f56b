use super::*;
use crate::image::{Word, read};
use proptest::prelude::*;

fn recipe() -> Recipe {
    Recipe { base: "alpine:3.20".into(), ..Recipe::default() }
}

fn strings<const N: usize>(all: [&str; N]) -> Vec<String> {
    all.map(str::to_owned).into()
}

#[test]
fn the_platform_s_part_comes_before_the_people_s() {
    let all = Recipe {
        packages: strings(["git", "bash"]).into_iter().collect(),
        instructions: read("RUN true\nUSER dev").unwrap().iter().map(|e| e.filled(&BTreeMap::new())).collect(),
        services: BTreeMap::from([("web".to_owned(), Supervised::new("exec httpd -f", &BTreeMap::new(), None))]),
        ..recipe()
    };
    let lines: Vec<String> = all.dockerfile().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[0], "FROM alpine:3.20");
    assert!(lines[1].starts_with("RUN [\"/bin/sh\",\"-c\",\"set -e\\n") && lines[1].ends_with("\"sh\",\"bash\",\"git\"]"));
    assert!(lines[2] == "COPY init /usr/lib/devsanctum" && lines[3].contains("cp /usr/lib/devsanctum/init /init"));
    assert_eq!(
        lines[4..],
        [r#"ENTRYPOINT ["/init"]"#, "COPY services.d /etc/services.d", r#"RUN ["/bin/sh","-c","true","sh"]"#, "USER dev"]
    );
    let files: Vec<(String, bool)> = all.files().iter().map(|f| (f.path.clone(), f.executable)).collect();
    let wanted = [("Dockerfile", false), ("init/init", true), ("services.d/web/run", true), ("services.d/web/script", false)];
    assert_eq!(files[..4], wanted.map(|(path, executable)| (path.to_owned(), executable)));
    assert_eq!(all.files()[3].content, "exec httpd -f");
    assert!(all.files()[4].content.ends_with(" /var/log/services/web\n"), "{}", all.files()[4].content);
}

#[test]
fn a_recipe_s_name_stands_for_all_that_is_in_it() {
    let plain = recipe();
    assert!(plain.is_plain());
    let mut others = vec![plain.clone()];
    others.push(Recipe { base: "alpine:3.21".into(), ..plain.clone() });
    others.push(Recipe { packages: strings(["git"]).into_iter().collect(), ..plain.clone() });
    for (name, script) in [("a", "b"), ("ab", ""), ("b", "b")] {
        let service = Supervised { script: script.to_owned(), user: None };
        others.push(Recipe { services: BTreeMap::from([(name.to_owned(), service)]), ..plain.clone() });
    }
    others.push(Recipe { bare: true, ..plain.clone() });
    others.push(Recipe { supervised: true, ..plain.clone() });
    let service = Supervised { script: "b".into(), user: Some("dev".into()) };
    others.push(Recipe { services: BTreeMap::from([("b".to_owned(), service)]), ..plain.clone() });
    let tags: BTreeSet<String> = others.iter().map(Recipe::tag).collect();
    assert_eq!(tags.len(), others.len());
    assert!(tags.iter().all(|t| t.len() == "devsanctum/env:".len() + 32));
    assert_eq!(plain.tag(), recipe().tag());
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
