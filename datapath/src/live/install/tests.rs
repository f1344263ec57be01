//! Records, names and locks, in a directory of the test's own.

use super::*;

fn state(name: &str) -> State {
    let run = std::env::temp_dir().join(format!("hwtest-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&run));
    State::at(run)
}

fn record(stage: Stage) -> Record {
    Record {
        stage,
        sources: vec![Source { name: "a.hop".to_owned(), text: "cluster a {}".to_owned() }],
        ..Record::new(Kind::Lab, 1)
    }
}

#[test]
fn names_are_such_that_nothing_else_is_meant_by_them() {
    for name in ["a", "demo", "Demo-2", &"x".repeat(32)] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "a--b", "-a", "a-", "a/b", "..", "a.b", "a b", "ä", &"x".repeat(33)] {
        assert!(!is_name(name), "{name}");
        let claimed = state("names").claim(name, record(Stage::Up));
        assert_eq!(claimed.err(), Some(InstallError::Name(name.to_owned())));
    }
}

#[test]
fn what_is_claimed_is_busy_until_it_is_up() {
    let state = state("claim");
    assert_eq!(state.list(), []);
    let change = state.claim("demo", record(Stage::Building)).unwrap();
    assert_eq!(
        state.claim("demo", record(Stage::Building)).err(),
        Some(InstallError::Exists("demo".to_owned()))
    );
    let busy =
        InstallError::Busy { name: "demo".to_owned(), process: std::process::id().to_string() };
    assert_eq!(state.open("demo").err(), Some(busy.clone()));
    change.save(record(Stage::Up)).unwrap();
    assert_eq!(state.open("demo").unwrap().sources, record(Stage::Up).sources);
    assert_eq!(state.change("demo").err(), Some(busy.clone()));
    assert_eq!(state.remove("demo").err(), Some(busy));
    drop(change);
    let (change, found) = state.change("demo").unwrap();
    assert_eq!((found.stage, change.name()), (Stage::Up, "demo"));
    drop(change);
    state.remove("demo").unwrap();
    assert_eq!(state.list(), []);
    assert!(matches!(state.remove("demo"), Err(InstallError::Absent { .. })));
}

#[test]
fn what_a_killed_process_left_is_said_to_be_unfinished_and_can_be_removed() {
    let state = state("killed");
    drop(state.claim("demo", record(Stage::Building)).unwrap());
    assert_eq!(state.open("demo").err(), Some(InstallError::Unfinished("demo".to_owned())));
    fs::write(state.run().join("demo/record.json"), "{").unwrap();
    assert_eq!(state.open("demo").err(), Some(InstallError::Unfinished("demo".to_owned())));
    assert!(state.list()[0].record.is_none());
    assert_eq!(state.remove_all(), Ok(vec!["demo".to_owned()]));
    assert_eq!(state.remove_all(), Ok(Vec::new()));
    assert!(!state.run().exists());
}

#[test]
fn a_name_may_be_left_out_where_there_is_one() {
    let state = state("meant");
    assert_eq!(state.meant(Some("x"), None), Ok("x".to_owned()));
    assert_eq!(state.meant(None, None), Err(InstallError::Which { known: Vec::new() }));
    drop(state.claim("one", record(Stage::Up)).unwrap());
    assert_eq!(state.meant(None, Some(Kind::Lab)), Ok("one".to_owned()));
    drop(state.claim("two", Record { kind: Kind::Attached, ..record(Stage::Up) }).unwrap());
    assert_eq!(state.meant(None, Some(Kind::Lab)), Ok("one".to_owned()));
    assert_eq!(state.meant(None, Some(Kind::Attached)), Ok("two".to_owned()));
    assert!(matches!(state.meant(None, None), Err(InstallError::Which { .. })));
    state.remove_all().unwrap();
}

#[test]
fn events_have_one_reader() {
    let state = state("reader");
    drop(state.claim("demo", record(Stage::Up)).unwrap());
    let reader = state.reader("demo").unwrap();
    let process = std::process::id().to_string();
    let taken = InstallError::Read { name: "demo".to_owned(), process };
    assert_eq!(state.reader("demo").err(), Some(taken));
    drop(reader);
    assert!(state.reader("demo").is_ok());
    state.remove_all().unwrap();
}

#[test]
fn another_version_is_refused_and_every_error_has_a_remedy() {
    let state = state("version");
    let old = Record { abi: 1, ..record(Stage::Up) };
    drop(state.claim("demo", old).unwrap());
    let error = state.open("demo").unwrap_err();
    assert_eq!(error, InstallError::Version("demo".to_owned()));
    assert!(error.remedy().contains("lab down demo"));
    state.remove_all().unwrap();
}

#[test]
fn names_of_namespaces_lead_back_to_their_installation() {
    let state = State::standard();
    let path = state.namespace("demo", "web/client");
    assert_eq!(path, Path::new("/run/netns/hopwise-demo--web--client"));
    assert_eq!(state.node_pins("demo", "n.1"), Path::new("/sys/fs/bpf/hopwise/demo/n%2E1"));
}

#[test]
fn a_lock_is_let_go_of_although_a_forked_child_has_the_file() {
    let state = state("forked");
    drop(state.claim("demo", record(Stage::Up)).unwrap());
    let path = state.run().join("demo").join(LOCK);
    let held = lock(&path).unwrap().unwrap();
    let inherited = held.0.try_clone().unwrap();
    assert_eq!(holder(&path), Some(std::process::id().to_string()));
    drop(held);
    assert_eq!(holder(&path), None);
    assert!(state.change("demo").is_ok());
    // Who looks at the same moment does not get in the way.
    let looks = File::open(&path).unwrap();
    looks.try_lock_shared().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(PATIENCE / 5);
            looks.unlock().unwrap();
        });
        assert!(state.change("demo").is_ok());
    });
    drop(inherited);
    state.remove_all().unwrap();
}
