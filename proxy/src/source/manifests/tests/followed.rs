//! Real files, followed by the real source.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::Receiver;

use super::*;
use crate::event_loop::channel;
use crate::sync_loop::Input;

/// As long as a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Followed {
    folder: tempfile::TempDir,
    inputs: Receiver<Input>,
}

impl Followed {
    /// Follows a folder that has these files.
    fn folder(files: &[(&str, &str)]) -> (Self, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for (file, text) in files {
            fs::write(folder.path().join("in").join(file), text).unwrap();
        }
        Self::path(folder, "in")
    }

    fn path(folder: tempfile::TempDir, path: &str) -> (Self, Vec<String>) {
        let (inbox, inputs) = channel();
        let source = Manifests::<Update>::open(&folder.path().join(path)).unwrap();
        crate::source::start("source", Box::new(source), inbox).unwrap();
        let followed = Self { folder, inputs };
        let mut all = Vec::new();
        while let Some(updates) = followed.event() {
            all.extend(updates);
        }
        (followed, brief(all))
    }

    /// The next batch, or `None` for the end of the first list.
    fn event(&self) -> Option<Vec<Update>> {
        match self.inputs.recv_timeout(PATIENCE).expect("an event") {
            Input::Event(Event::Updates(updates)) => Some(updates),
            Input::Event(Event::Synced) => None,
            other => panic!("{other:?}"),
        }
    }

    /// The next batch that changes anything.
    fn change(&self) -> Vec<String> {
        loop {
            let updates = self.event().expect("updates");
            if !updates.is_empty() {
                return brief(updates);
            }
        }
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.at(file), text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }
}

#[test]
fn only_manifests_are_read() {
    let a = service("a", "10.0.0.1");
    let json = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}"#;
    let files = [
        ("a.yaml", &*a),
        ("n.json", json),
        (".hidden.yaml", "no"),
        ("notes.txt", "no"),
        ("a.yaml~", "no"),
        ("b.yml", "# empty"),
    ];
    let (_followed, first) = Followed::folder(&files);
    assert_eq!(first, ["a 10.0.0.1", "node n"]);
}

#[test]
fn saves_in_place_and_by_renaming_are_seen() {
    let (followed, first) = Followed::folder(&[("a.yaml", &service("a", "10.0.0.1"))]);
    assert_eq!(first, ["a 10.0.0.1"]);
    followed.write("in/a.yaml", &service("a", "10.0.0.2"));
    assert_eq!(followed.change(), ["a 10.0.0.2"]);
    followed.write("new", &service("a", "10.0.0.3"));
    followed.rename("new", "in/a.yaml");
    assert_eq!(followed.change(), ["a 10.0.0.3"]);
    followed.write("in/b.yaml", &service("b", "10.0.0.4"));
    assert_eq!(followed.change(), ["b 10.0.0.4"]);
    fs::remove_file(followed.at("in/b.yaml")).unwrap();
    assert_eq!(followed.change(), ["-Service default/b"]);
    followed.rename("in/a.yaml", "in/a.off");
    assert_eq!(followed.change(), ["-Service default/a"]);
}

#[test]
fn a_save_without_change_is_told_of() {
    let (followed, _) = Followed::folder(&[("a.yaml", &service("a", "10.0.0.1"))]);
    followed.write("in/a.yaml", &service("a", "10.0.0.1"));
    assert_eq!(followed.event().map(|updates| updates.len()), Some(0));
}

#[test]
fn an_editor_that_moves_the_old_file_away_interrupts_nothing() {
    let (followed, _) = Followed::folder(&[("a.yaml", &service("a", "10.0.0.1"))]);
    followed.rename("in/a.yaml", "in/a.yaml~");
    let file = fs::File::create(followed.at("in/a.yaml")).unwrap();
    // A file that goes for good after that is given the same grace: when it is over, so is that of the first.
    followed.write("in/b.yaml", &service("b", "10.0.0.1"));
    assert_eq!(followed.change(), ["b 10.0.0.1"]);
    fs::remove_file(followed.at("in/b.yaml")).unwrap();
    assert_eq!(followed.change(), ["-Service default/b"]);
    io::Write::write_all(&mut &file, service("a", "10.0.0.2").as_bytes()).unwrap();
    drop(file);
    assert_eq!(followed.change(), ["a 10.0.0.2"]);
}

#[test]
fn a_renamed_manifest_changes_nothing() {
    let (followed, _) = Followed::folder(&[("a.yaml", &service("a", "10.0.0.1"))]);
    followed.rename("in/a.yaml", "in/b.yaml");
    assert_eq!(followed.event().map(brief), Some(Vec::new()));
    fs::remove_file(followed.at("in/b.yaml")).unwrap();
    assert_eq!(followed.change(), ["-Service default/a"]);
}

#[test]
fn a_mounted_config_map_switches_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("in/..1")).unwrap();
    fs::write(at("in/..1/a.yaml"), service("a", "10.0.0.1")).unwrap();
    fs::write(at("in/..1/b.yaml"), service("b", "10.0.0.2")).unwrap();
    symlink("..1", at("in/..data")).unwrap();
    symlink("..data/a.yaml", at("in/a.yaml")).unwrap();
    symlink("..data/b.yaml", at("in/b.yaml")).unwrap();
    let (followed, first) = Followed::path(folder, "in");
    assert_eq!(first, ["a 10.0.0.1", "b 10.0.0.2"]);

    fs::create_dir(followed.at("in/..2")).unwrap();
    followed.write("in/..2/a.yaml", &service("a", "10.0.0.3"));
    followed.write("in/..2/b.yaml", &service("b", "10.0.0.4"));
    symlink("..2", followed.at("in/..data_tmp")).unwrap();
    followed.rename("in/..data_tmp", "in/..data");
    fs::remove_dir_all(followed.at("in/..1")).unwrap();
    assert_eq!(followed.change(), ["a 10.0.0.3", "b 10.0.0.4"]);
}

#[test]
fn what_a_link_leads_to_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for sub in ["in", "x", "y"] {
        fs::create_dir(at(sub)).unwrap();
    }
    fs::write(at("y/real"), service("a", "10.0.0.1")).unwrap();
    symlink("../y/real", at("x/link")).unwrap();
    symlink("../x/link", at("in/a.yaml")).unwrap();
    let (followed, first) = Followed::path(folder, "in");
    assert_eq!(first, ["a 10.0.0.1"]);
    followed.write("y/real", &service("a", "10.0.0.2"));
    assert_eq!(followed.change(), ["a 10.0.0.2"]);
    followed.write("y/other", &service("a", "10.0.0.3"));
    symlink("../y/other", followed.at("x/new")).unwrap();
    followed.rename("x/new", "x/link");
    assert_eq!(followed.change(), ["a 10.0.0.3"]);
    followed.write("y/other", &service("a", "10.0.0.4"));
    assert_eq!(followed.change(), ["a 10.0.0.4"]);
    symlink("../y/real", followed.at("in/b.yaml")).unwrap();
    assert_eq!(followed.change(), ["a 10.0.0.2"]);
}

#[test]
fn a_folder_that_is_replaced_is_followed_and_one_that_is_gone_keeps_its_objects() {
    let (followed, _) = Followed::folder(&[("a.yaml", &service("a", "10.0.0.1"))]);
    followed.rename("in", "old");
    fs::create_dir(followed.at("new")).unwrap();
    followed.write("new/b.yaml", &service("b", "10.0.0.2"));
    followed.rename("new", "in");
    assert_eq!(followed.change(), ["-Service default/a", "b 10.0.0.2"]);
    followed.write("in/b.yaml", &service("b", "10.0.0.3"));
    assert_eq!(followed.change(), ["b 10.0.0.3"]);
}

#[test]
fn one_file_is_followed_and_its_neighbours_are_not() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list"), service("a", "10.0.0.1")).unwrap();
    fs::write(folder.path().join("b.yaml"), service("b", "10.0.0.1")).unwrap();
    let (followed, first) = Followed::path(folder, "list");
    assert_eq!(first, ["a 10.0.0.1"]);
    followed.write("b.yaml", &service("b", "10.0.0.2"));
    fs::remove_file(followed.at("list")).unwrap();
    // Once it is missed, what it held stays.
    assert_eq!(followed.event().map(brief), Some(Vec::new()));
    followed.write("list", &service("a", "10.0.0.2"));
    assert_eq!(followed.change(), ["a 10.0.0.2"]);
}

#[test]
fn what_cannot_be_read_is_no_reason_to_hang() {
    let (followed, _) = Followed::folder(&[("a.yaml", &service("a", "10.0.0.1"))]);
    let status = std::process::Command::new("mkfifo").arg(followed.at("pipe")).status().unwrap();
    assert!(status.success());
    followed.rename("pipe", "in/a.yaml");
    fs::write(followed.at("in/b.yaml"), b"\xff\xfe").unwrap();
    followed.write("in/c.yaml", &service("c", "10.0.0.3"));
    assert_eq!(followed.change(), ["c 10.0.0.3"]);
}

#[test]
fn what_is_not_there_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let error = Manifests::<Update>::open(&folder.path().join("nothing")).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}
