//! Sealing of secrets at rest: ChaCha20-Poly1305 under a key of the platform's own.
//!
//! The keys lie in `seal.key` in the data folder, one a line, `<id> <64 hexadecimal digits>`, oldest first. The newest
//! seals, every one of them opens, so a key is rotated by adding a line. What was sealed for one context (the id of the
//! row that holds it) opens for no other, so nobody who can write to the database can move a secret into another app.
//! Controllers that share a database share the file: it is then given to each of them, and none makes its own.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use paas_api::Secret;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use uuid::Uuid;

/// Name of the key file in the data folder.
pub const FILE_NAME: &str = "seal.key";

/// Why something was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file could not be read or made.
    #[error("cannot use the key file {path}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The key file is not one.
    #[error("the key file {path} is damaged: line {line} is not `<id> <64 hexadecimal digits>`")]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// Others may read the key file.
    #[error("the key file {path} can be read by others (mode {mode:o}); make it {wanted:o}")]
    Exposed {
        /// Where it is.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they may be at most.
        wanted: u32,
    },
    /// There is no key of that id.
    #[error("no key {0:?} in the key file: this secret was sealed under another one")]
    UnknownKey(String),
    /// The bytes are not what was sealed for this context.
    #[error("a sealed secret does not open: it was changed, or sealed for something else")]
    Unopenable,
    /// The system has no randomness to give.
    #[error("the system's random numbers are not available")]
    Random,
}

/// Seals and opens.
#[derive(Clone)]
pub struct Seal {
    keys: Arc<Vec<(String, LessSafeKey)>>,
    /// What other secrets are derived from: the oldest key, so that they outlive a rotation.
    root: Arc<Prk>,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl Seal {
    /// Reads the keys of a data folder, making the folder and a first key when there is none yet.
    pub fn load(data: &Path) -> Result<Self, SealError> {
        let path = data.join(FILE_NAME);
        let file = |source| SealError::File { path: path.clone(), source };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(data, &path)?;
                fs::read_to_string(&path).map_err(file)?
            }
            read => read.map_err(file)?,
        };
        Self::of(path, &text, 0o600)
    }

    /// Reads the keys of a file that somebody else keeps, and that is never made here. Its group may read it: so does
    /// Kubernetes hand a secret to a process that is not root.
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let text = fs::read_to_string(path).map_err(|source| SealError::File { path: path.to_owned(), source })?;
        Self::of(path.to_owned(), &text, 0o640)
    }

    fn of(path: PathBuf, text: &str, wanted: u32) -> Result<Self, SealError> {
        let metadata = fs::metadata(&path).map_err(|source| SealError::File { path: path.clone(), source })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 & !wanted != 0 {
            return Err(SealError::Exposed { path, mode, wanted });
        }
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            keys.push(
                parse(line).ok_or_else(|| SealError::Damaged { path: path.clone(), line: number.saturating_add(1) })?,
            );
        }
        let oldest = text.lines().next().ok_or(SealError::Damaged { path, line: 1 })?;
        let root = Salt::new(HKDF_SHA256, b"paas").extract(oldest.as_bytes());
        Ok(Self { keys: Arc::new(keys), root: Arc::new(root) })
    }

    /// Seals `plain` for `context`: the id of the key, and the sealed bytes.
    pub fn seal(&self, plain: &[u8], context: Uuid) -> Result<(String, Vec<u8>), SealError> {
        let (id, key) = self.keys.last().ok_or(SealError::Random)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut body = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| SealError::Random)?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut body);
        Ok((id.clone(), sealed))
    }

    /// Opens what [`Self::seal`] made for `context` under the key `key_id`.
    pub fn open(&self, key_id: &str, sealed: &[u8], context: Uuid) -> Result<Vec<u8>, SealError> {
        let (_, key) =
            self.keys.iter().find(|(id, _)| id == key_id).ok_or_else(|| SealError::UnknownKey(key_id.to_owned()))?;
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Unopenable)?;
        let mut body = body.to_vec();
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| SealError::Unopenable)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// A secret of the platform's for one purpose: the same whenever it is asked for, and on every controller that has
    /// the key file. Forty hexadecimal digits.
    pub fn derive(&self, purpose: &str) -> Result<Secret, SealError> {
        let mut secret = [0; 20];
        let purpose = [purpose.as_bytes()];
        let derived = self.root.expand(&purpose, Length(secret.len())).and_then(|derived| derived.fill(&mut secret));
        derived.map_err(|_| SealError::Random)?;
        Ok(hex::encode(secret).into())
    }

    /// Whether there is a key of that id.
    pub fn knows(&self, key_id: &str) -> bool {
        self.keys.iter().any(|(id, _)| id == key_id)
    }
}

/// The length of a derived secret.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Makes the key file whole and durable, or leaves the one that somebody else made at the same time.
fn create(data: &Path, path: &Path) -> Result<(), SealError> {
    let file = |source| SealError::File { path: path.to_owned(), source };
    fs::create_dir_all(data).map_err(file)?;
    let mut random = [0; 36];
    SystemRandom::new().fill(&mut random).map_err(|_| SealError::Random)?;
    let (id, key) = random.split_at(4);
    let temporary = data.join(format!("{FILE_NAME}.{}", Uuid::new_v4()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut out| {
            // The umask can only take rights away, not give them.
            out.set_permissions(Permissions::from_mode(0o600))?;
            writeln!(out, "{} {}", hex::encode(id), hex::encode(key))?;
            out.sync_all()
        })
        // Unlike a rename, a link never replaces a file that is there.
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = fs::remove_file(&temporary);
    written.and(removed).and_then(|()| File::open(data)?.sync_all()).map_err(file)
}

fn parse(line: &str) -> Option<(String, LessSafeKey)> {
    let (id, digits) = line.split_once(' ')?;
    let bytes = hex::decode(digits).ok()?;
    let legal = !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    legal
        .then(|| UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok())
        .flatten()
        .map(|key| (id.to_owned(), LessSafeKey::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_context_only() {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::load(folder.path()).unwrap();
        let (here, there) = (Uuid::new_v4(), Uuid::new_v4());
        let (id, sealed) = seal.seal(b"hunter2", here).unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(seal.open(&id, &sealed, here).unwrap(), b"hunter2");
        assert!(matches!(seal.open(&id, &sealed, there), Err(SealError::Unopenable)));
        assert!(matches!(seal.open("other", &sealed, here), Err(SealError::UnknownKey(_))));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(matches!(seal.open(&id, &changed, here), Err(SealError::Unopenable)), "byte {index}");
        }
        assert!(matches!(seal.open(&id, &sealed[..5], here), Err(SealError::Unopenable)));
        assert_ne!(seal.seal(b"hunter2", here).unwrap().1, sealed, "the same text twice does not look the same");
    }

    #[test]
    fn the_key_file_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("new/data");
        let first = Seal::load(&data).unwrap();
        let path = data.join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no temporary file stays");
        let context = Uuid::new_v4();
        let (id, sealed) = first.seal(b"x", context).unwrap();
        assert_eq!(Seal::load(&data).unwrap().open(&id, &sealed, context).unwrap(), b"x");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Seal::load(&data), Err(SealError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_file_that_is_given_is_never_made_and_its_group_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        assert!(matches!(Seal::read(&path), Err(SealError::File { .. })));
        assert!(!path.exists());
        fs::write(&path, format!("first {}\n", "ab".repeat(32))).unwrap();
        for (mode, good) in [(0o400, true), (0o440, true), (0o640, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(Seal::read(&path).is_ok(), good, "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        assert!(Seal::read(&path).unwrap().knows("first"));
    }

    #[test]
    fn starting_at_once_ends_with_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let context = Uuid::new_v4();
        let seals: Vec<Seal> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| Seal::load(folder.path()).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let (id, sealed) = seals[0].seal(b"x", context).unwrap();
        for seal in &seals {
            assert_eq!(seal.open(&id, &sealed, context).unwrap(), b"x");
        }
    }

    #[test]
    fn the_newest_key_seals_and_every_key_opens() {
        let folder = tempfile::tempdir().unwrap();
        let context = Uuid::new_v4();
        let (old, sealed) = Seal::load(folder.path()).unwrap().seal(b"x", context).unwrap();
        let path = folder.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}second {}\n", "ab".repeat(32))).unwrap();
        let seal = Seal::load(folder.path()).unwrap();
        assert_eq!(seal.open(&old, &sealed, context).unwrap(), b"x");
        assert_eq!(seal.seal(b"y", context).unwrap().0, "second");
    }

    #[test]
    fn derived_secrets_outlive_restarts_and_rotation_and_differ_by_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::load(folder.path()).unwrap();
        let derived = seal.derive("one").unwrap();
        assert_eq!(derived.expose().len(), 40);
        assert_ne!(derived, seal.derive("two").unwrap());
        let path = folder.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}second {}\n", "ab".repeat(32))).unwrap();
        assert_eq!(Seal::load(folder.path()).unwrap().derive("one").unwrap(), derived);
        assert_ne!(Seal::load(tempfile::tempdir().unwrap().path()).unwrap().derive("one").unwrap(), derived);
    }

    #[test]
    fn a_damaged_key_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        Seal::load(folder.path()).unwrap();
        let path = folder.path().join(FILE_NAME);
        for (text, line) in [("", 1), ("x\n", 1), ("id 00\n", 1), (&*format!("id {}\n?\n", "00".repeat(32)), 2)] {
            fs::write(&path, text).unwrap();
            match Seal::load(folder.path()) {
                Err(SealError::Damaged { line: found, .. }) => assert_eq!(found, line, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }
}
