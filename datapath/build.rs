//! Chooses the object that is embedded and refuses one that its sources have left behind. Builds nothing.
//!
//! The object `prebuilt/hopwise.bpf.o` is committed beside `prebuilt/digest`, the digest of the
//! sources that it was built from. The digest is the SHA-256 of one line a file, sorted by the bytes of
//! their paths, each as `sha256sum` prints it (`HEX`, two spaces, path from `datapath/`, newline), over
//!   abi/Cargo.toml abi/src/** ebpf/Cargo.lock ebpf/Cargo.toml ebpf/src/**
//! `.ci/digest.sh` prints the same number. Where `HOPWISE_BPF_OBJECT` is set at build time that file is
//! embedded instead, unchecked.

#[path = "build/sha256.rs"]
mod sha256;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

const OBJECT: &str = "prebuilt/hopwise.bpf.o";
const DIGEST: &str = "prebuilt/digest";
const SOURCES: [&str; 5] =
    ["abi/Cargo.toml", "abi/src", "ebpf/Cargo.lock", "ebpf/Cargo.toml", "ebpf/src"];

fn main() {
    println!("cargo::rerun-if-env-changed=HOPWISE_BPF_OBJECT");
    for path in [OBJECT, DIGEST, "build.rs", "build"].iter().chain(&SOURCES) {
        println!("cargo::rerun-if-changed={path}");
    }
    match object() {
        Ok(path) => println!("cargo::rustc-env=HOPWISE_EMBEDDED_OBJECT={}", path.display()),
        Err(lines) => {
            for line in lines {
                println!("cargo::error={line}");
            }
            process::exit(1);
        }
    }
}

/// The object to embed, or why there is none.
fn object() -> Result<PathBuf, Vec<String>> {
    let absolute = |path: &Path| {
        fs::canonicalize(path)
            .map_err(|error| vec![format!("the BPF object {}: {error}", path.display())])
    };
    if let Some(path) = env::var_os("HOPWISE_BPF_OBJECT").filter(|path| !path.is_empty()) {
        println!("cargo::rerun-if-changed={}", Path::new(&path).display());
        return absolute(Path::new(&path));
    }
    let built_from = fs::read_to_string(DIGEST)
        .map_err(|error| vec![format!("datapath/{DIGEST}: {error}; `make bpf` writes it")])?;
    let sources = digest().map_err(|error| vec![format!("the sources in datapath/: {error}")])?;
    if built_from.trim() != sources {
        return Err(vec![
            format!("datapath/{OBJECT} was built from other sources than are here"),
            "run `make bpf` to build it anew; or set HOPWISE_BPF_OBJECT to an object file".into(),
        ]);
    }
    absolute(Path::new(OBJECT))
}

/// The digest of the sources.
fn digest() -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(Path::new(source), &mut files)?;
    }
    files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    let mut lines = Vec::new();
    for file in files {
        let hex = sha256::hex(&fs::read(&file)?);
        writeln!(lines, "{hex}  {}", file.display())?;
    }
    Ok(sha256::hex(&lines))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
