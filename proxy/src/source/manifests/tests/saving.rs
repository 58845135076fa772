//! What a save of one file, or several, puts in force.

use super::*;

/// An inventory whose files are only texts.
#[derive(Default)]
struct Desk {
    inventory: Inventory<Update>,
    files: HashMap<Arc<Path>, Option<String>>,
}

impl Desk {
    /// Saves files as one batch (`None` deletes, `"!"` makes unreadable); returns what that put in force.
    fn save(&mut self, files: &[(&str, Option<&str>)]) -> Vec<String> {
        for (file, text) in files {
            self.files.insert(Path::new(file).into(), text.map(str::to_owned));
        }
        for (file, _) in files {
            let file = Path::new(file).into();
            self.inventory.take(&file, self.content(&file));
        }
        let mut settled = self.inventory.settle();
        for file in &settled.reread {
            self.inventory.retake(file, self.content(file));
        }
        settled.updates.extend(self.inventory.settle().updates);
        brief(settled.updates)
    }

    fn content(&self, file: &Arc<Path>) -> Content {
        match self.files.get(file).cloned().flatten() {
            None => Content::Gone,
            Some(text) if text == "!" => Content::Unreadable("no".to_owned()),
            Some(text) => Content::Text(text),
        }
    }

    fn problems(&mut self) -> Vec<String> {
        self.inventory.take_problems().iter().map(ToString::to_string).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn only_what_changed_is_handed_on() {
    let mut desk = Desk::default();
    let a = service("a", "10.0.0.1");
    let two = format!("{a}---\n{}", service("b", "10.0.0.2"));
    assert_eq!(desk.save(&[("f.yaml", Some(&two))]), ["a 10.0.0.1", "b 10.0.0.2"]);
    assert_eq!(desk.save(&[("f.yaml", Some(&two))]), NOTHING);
    let changed = format!("{a}---\n{}", service("b", "10.0.0.3"));
    assert_eq!(desk.save(&[("f.yaml", Some(&changed))]), ["b 10.0.0.3"]);
    assert_eq!(desk.save(&[("f.yaml", Some(&a))]), ["-Service default/b"]);
    assert_eq!(desk.save(&[("f.yaml", None)]), ["-Service default/a"]);
    assert_eq!(desk.problems(), NOTHING);
}

#[test]
fn a_typo_takes_nothing_out_of_force() {
    let mut desk = Desk::default();
    let (a, b, c) = (service("a", "10.0.0.1"), service("b", "10.0.0.2"), service("c", "10.0.0.3"));
    desk.save(&[("f.yaml", Some(&format!("{a}---\n{b}")))]);
    let typo = format!("{}---\n{c}---\n{}", a.replace("kind", "kind: :"), service("b", "10.0.0.9"));
    assert_eq!(desk.save(&[("f.yaml", Some(&typo))]), ["b 10.0.0.9", "c 10.0.0.3"]);
    assert!(desk.inventory.is_broken(Path::new("f.yaml")));
    let problems = desk.problems();
    assert!(problems.len() == 1 && problems[0].starts_with("f.yaml:2: "), "{problems:?}");
    // Mended: what is the same as before the typo needs nothing, what was left out goes now.
    assert_eq!(desk.save(&[("f.yaml", Some(&a))]), ["-Service default/b", "-Service default/c"]);
    assert!(!desk.inventory.is_broken(Path::new("f.yaml")));
}

#[test]
fn a_file_that_cannot_be_read_stays_in_force_until_it_is_deleted() {
    let mut desk = Desk::default();
    let a = service("a", "10.0.0.1");
    desk.save(&[("f.yaml", Some(&a))]);
    assert_eq!(desk.save(&[("f.yaml", Some("!"))]), NOTHING);
    assert_eq!(desk.problems(), ["f.yaml: no"]);
    assert_eq!(desk.save(&[("f.yaml", Some(&a))]), NOTHING);
    assert_eq!(desk.save(&[("f.yaml", Some("!"))]), NOTHING);
    assert_eq!(desk.save(&[("f.yaml", None)]), ["-Service default/a"]);
}

#[test]
fn of_two_files_the_last_by_name_counts() {
    let mut desk = Desk::default();
    let (one, two) = (service("a", "10.0.0.1"), service("a", "10.0.0.2"));
    assert_eq!(desk.save(&[("2.yaml", Some(&two))]), ["a 10.0.0.2"]);
    assert_eq!(desk.save(&[("1.yaml", Some(&one))]), NOTHING);
    assert_eq!(
        desk.problems(),
        [
            "1.yaml:1: Service default/a is also in 2.yaml: the one in 2.yaml counts, since its name sorts last"
        ]
    );
    assert_eq!(desk.save(&[("2.yaml", None)]), ["a 10.0.0.1"]);
    assert_eq!(desk.save(&[("2.yaml", Some(&two))]), ["a 10.0.0.2"]);
    assert_eq!(desk.save(&[("1.yaml", None)]), NOTHING);
    assert_eq!(desk.save(&[("2.yaml", None)]), ["-Service default/a"]);
}

#[test]
fn what_a_broken_file_held_comes_back_when_it_is_mended() {
    let mut desk = Desk::default();
    let (one, two) = (service("a", "10.0.0.1"), service("a", "10.0.0.2"));
    desk.save(&[("1.yaml", Some(&one)), ("2.yaml", Some(&two))]);
    desk.save(&[("1.yaml", Some("kind: :"))]);
    // Neither file can give it now: what is in force stays.
    assert_eq!(desk.save(&[("2.yaml", None)]), NOTHING);
    assert_eq!(desk.save(&[("1.yaml", Some(&one))]), ["a 10.0.0.1"]);
}

#[test]
fn an_object_that_moves_between_files_is_never_gone() {
    let mut desk = Desk::default();
    let a = service("a", "10.0.0.1");
    desk.save(&[("1.yaml", Some(&a))]);
    assert_eq!(desk.save(&[("1.yaml", None), ("2.yaml", Some(&a))]), NOTHING);
    assert_eq!(desk.save(&[("2.yaml", Some("")), ("1.yaml", Some(&a))]), NOTHING);
}

#[test]
fn of_two_in_one_file_the_last_counts() {
    let mut desk = Desk::default();
    let (one, two) = (service("a", "10.0.0.1"), service("a", "10.0.0.2"));
    assert_eq!(desk.save(&[("f.yaml", Some(&format!("{one}---\n{two}")))]), ["a 10.0.0.2"]);
    assert_eq!(desk.problems().len(), 1);
    assert_eq!(desk.save(&[("f.yaml", Some(&format!("{two}---\n{one}")))]), ["a 10.0.0.1"]);
}

#[test]
fn a_large_file_is_handed_on_in_parts_at_the_start() {
    let names = (0..1200).map(|i| format!("s{i}"));
    let text: Vec<String> = names.map(|name| service(&name, "10.0.0.1")).collect();
    let (mut inventory, file) = (Inventory::default(), Path::new("f.yaml").into());
    let mut parts = Vec::new();
    let content = |text: &str| Content::Text(text.to_owned());
    inventory.take_first(&file, content(&text.join("---\n")), &mut |updates| parts.push(updates.len()));
    assert!(parts.len() > 1 && parts.iter().sum::<usize>() == 1200, "{parts:?}");
    inventory.take(&file, content(&text[..1199].join("---\n")));
    assert_eq!(brief(inventory.settle().updates), ["-Service default/s1199"]);
}

/// What a save of any files leads to is what the files alone say, whatever was there before.
#[derive(Clone, Debug)]
struct Save {
    file: usize,
    objects: Option<Vec<(usize, usize)>>,
}

fn saves() -> impl Strategy<Value = Vec<Vec<Save>>> {
    let objects = prop::option::weighted(0.8, prop::collection::vec((0..4_usize, 0..3_usize), 0..4));
    let save = (0..3_usize, objects).prop_map(|(file, objects)| Save { file, objects });
    prop::collection::vec(prop::collection::vec(save, 1..3), 1..12)
}

proptest! {
    #[test]
    fn what_is_in_force_is_what_the_files_say(history in saves()) {
        let mut desk = Desk::default();
        let mut in_force = std::collections::BTreeMap::new();
        for batch in history {
            let texts: Vec<(String, Option<String>)> = batch.iter().map(|save| {
                let text = save.objects.as_ref().map(|objects| {
                    let text = |(name, ip): &(usize, usize)| service(&format!("s{name}"), &format!("10.0.0.{ip}"));
                    objects.iter().map(text).collect::<Vec<_>>().join("---\n")
                });
                (format!("{}.yaml", save.file), text)
            }).collect();
            let files: Vec<_> = texts.iter().map(|(file, text)| (file.as_str(), text.as_deref())).collect();
            for update in desk.save(&files) {
                if let Some(gone) = update.strip_prefix("-Service default/") {
                    prop_assert!(in_force.remove(gone).is_some());
                } else {
                    let (name, ip) = update.split_once(' ').unwrap();
                    prop_assert_ne!(in_force.insert(name.to_owned(), ip.to_owned()), Some(ip.to_owned()));
                }
            }
            let mut expected = std::collections::BTreeMap::new();
            let mut files: Vec<_> = desk.files.iter().collect();
            files.sort();
            for text in files.into_iter().filter_map(|(_, text)| text.as_ref()) {
                for found in parse(text, &|_| None).0 {
                    let found = brief(found.update);
                    let (name, ip) = found[0].split_once(' ').unwrap();
                    expected.insert(name.to_owned(), ip.to_owned());
                }
            }
            prop_assert_eq!(&in_force, &expected);
        }
    }
}
