//! The object file with the eBPF programs: the one built into this binary, or the one that
//! `HOPWISE_BPF_OBJECT` names. Bytes only; loading them is a backend's business.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::{env, fs};

use engine::backend::BackendError;

/// Name of the environment variable that names an object file to use instead of the built-in one.
pub const VARIABLE: &str = "HOPWISE_BPF_OBJECT";

/// Loaders read 8-byte fields of the file where they lie.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static EMBEDDED: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("HOPWISE_EMBEDDED_OBJECT")));

/// The error of an object that lacks something or cannot be run, and what to do about it.
pub(crate) fn unusable(what: String) -> BackendError {
    BackendError::Unsupported {
        what,
        remedy: "the object is damaged or of another version; unset HOPWISE_BPF_OBJECT or build it anew \
                 (`make bpf`)"
            .to_owned(),
    }
}

/// The error of a map or program that the object lacks.
#[cfg(feature = "kernel")]
pub(crate) fn absent(what: &str) -> BackendError {
    unusable(format!("{what} of the datapath's object"))
}

/// An object file.
#[derive(Clone, Debug)]
pub struct Object {
    bytes: Cow<'static, [u8]>,
    /// The file that it was read from; empty for the built-in one.
    path: String,
}

impl Object {
    /// The object that this binary was built with.
    pub fn embedded() -> Self {
        Self { bytes: Cow::Borrowed(&EMBEDDED.0), path: String::new() }
    }

    /// The object that [`VARIABLE`] names, or the built-in one where it is unset or empty. An error if the
    /// file cannot be read or is no ELF file.
    pub fn find() -> Result<Self, BackendError> {
        match env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::read(&path),
            None => Ok(Self::embedded()),
        }
    }

    /// Reads an object file.
    fn read(path: &OsStr) -> Result<Self, BackendError> {
        let path_text = path.to_string_lossy().into_owned();
        let unusable = |error: String| BackendError::System {
            call: format!("reading the object file {path_text} that {VARIABLE} names"),
            error,
        };
        let bytes = fs::read(path).map_err(|error| unusable(error.to_string()))?;
        if !bytes.starts_with(b"\x7fELF") {
            return Err(unusable("it is not an ELF file".to_owned()));
        }
        Ok(Self { bytes: Cow::Owned(bytes), path: path_text })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The SHA-256 of its bytes, in hex.
    pub fn digest(&self) -> String {
        sha256::hex(&self.bytes)
    }

    /// Where it is from, in words.
    pub fn origin(&self) -> String {
        if self.path.is_empty() { "built in".to_owned() } else { self.path.clone() }
    }
}

#[path = "../build/sha256.rs"]
mod sha256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_scripts_digests_are_those_of_the_standard() {
        // FIPS 180-4, examples; and lengths around a block's end by another implementation.
        for (text, digest) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&"a".repeat(55), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"),
            (&"a".repeat(64), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"),
        ] {
            assert_eq!(sha256::hex(text.as_bytes()), digest, "{text}");
        }
    }

    #[test]
    fn the_built_in_object_is_an_aligned_elf_file() {
        let object = Object::embedded();
        assert!(object.bytes().starts_with(b"\x7fELF"));
        assert_eq!(object.bytes().as_ptr().align_offset(8), 0);
        assert_eq!(object.origin(), "built in");
    }

    #[test]
    fn a_file_that_is_no_object_is_refused_by_name() {
        for (path, wrong) in [("/nonexistent/hopwise.o", "No such file"), (file!(), "")] {
            let error = Object::read(OsStr::new(path)).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(wrong), "{error}");
        }
        let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let error = Object::read(OsStr::new(text)).unwrap_err().to_string();
        assert!(error.contains("not an ELF file"), "{error}");
    }
}
