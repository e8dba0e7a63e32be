//! Artefacts by content: a directory for each noun and key over every input, built now or found from an
//! earlier run.
//!
//! An artefact is built beside its place and renamed when complete, so a half-built one is never found.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::encoding::hex;
use crate::progress::say;

/// The directory of all artefacts; one process at a time uses it, with as many threads as it likes.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    _lock: Arc<File>,
    /// One for each artefact that was asked for: who holds it looks for the artefact, and builds it.
    builders: Arc<Mutex<BTreeMap<String, Arc<Mutex<()>>>>>,
    sockets: Arc<AtomicU32>,
}

impl Cache {
    /// Opens (and makes) the cache at `root`; waits for another process that uses it.
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("Creating {}", root.display()))?;
        let root = root.canonicalize()?;
        let lock = File::create(root.join("lock"))?;
        lock.lock().context("Locking the cache")?;
        for left in [UNFINISHED, SOCKETS].map(|name| root.join(name)) {
            if left.exists() {
                fs::remove_dir_all(&left).context("Removing what an earlier run left")?;
            }
        }
        fs::create_dir(root.join(SOCKETS))?;
        let cache = Self { root, _lock: Arc::new(lock), builders: Arc::default(), sockets: Arc::default() };
        cache.forget_the_unused()?;
        Ok(cache)
    }

    /// The artefact `noun` for `key`, built by `recipe` if it is not there yet. Of several threads that ask
    /// for the same one, one builds it, and the others wait.
    ///
    /// # Errors
    /// The recipe's own.
    pub fn artefact(
        &self,
        noun: &str,
        key: Key,
        recipe: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Artefact> {
        let id = format!("{noun}-{}", key.finish());
        let path = self.root.join(&id);
        let builder = self.builder(&id);
        let _building = builder.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.exists() {
            let started = Instant::now();
            let unfinished = self.root.join(UNFINISHED).join(&id);
            // A builder that failed has left something.
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished)?;
            }
            fs::create_dir_all(&unfinished)?;
            recipe(&unfinished).with_context(|| format!("Building {id}"))?;
            fs::rename(&unfinished, &path)?;
            say(&format!("built {id} in {:.1} s", started.elapsed().as_secs_f64()));
        }
        File::open(&path)?.set_modified(SystemTime::now())?;
        Ok(Artefact { path, id })
    }

    /// An empty directory for one run, in place of the one of an earlier run of the same name.
    ///
    /// # Errors
    /// When it cannot be emptied or made.
    pub fn run_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join("runs").join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A path that no other socket of this process has. It may have 107 bytes at most, so sockets do not lie
    /// in the directory of their run.
    pub fn socket(&self, name: &str) -> PathBuf {
        let number = self.sockets.fetch_add(1, Ordering::Relaxed);
        self.root.join(SOCKETS).join(format!("{number}-{name}"))
    }

    fn builder(&self, id: &str) -> Arc<Mutex<()>> {
        let mut builders = self.builders.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(builders.entry(id.to_owned()).or_default())
    }

    /// Where all artefacts lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Each change of the product makes new images; those of days ago only fill the disk.
    fn forget_the_unused(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if entry.file_type()?.is_dir() && age > UNUSED {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("Removing {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// A finished artefact: a directory that does not change any more.
#[derive(Debug, Clone)]
pub struct Artefact {
    /// The directory.
    pub path: PathBuf,
    /// Noun and key.
    pub id: String,
}

impl Artefact {
    /// A file of the artefact.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The hash over everything that decides an artefact's content.
#[derive(Debug, Default)]
pub struct Key(Sha256);

impl Key {
    /// A key that starts with the recipe's own text or parameters.
    pub fn of(recipe: impl AsRef<[u8]>) -> Self {
        Self::default().and(recipe)
    }

    /// Adds a value, length first.
    #[must_use]
    pub fn and(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.update(value.len().to_be_bytes());
        self.0.update(value);
        self
    }

    /// Adds another artefact.
    #[must_use]
    pub fn artefact(self, input: &Artefact) -> Self {
        self.and(&input.id)
    }

    /// Adds a file's content, or that of every file below a directory, names included.
    ///
    /// # Errors
    /// When something there cannot be read.
    pub fn file(self, path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let content = fs::read(path).with_context(|| format!("Reading {}", path.display()))?;
            return Ok(self.and(content));
        }
        let mut entries: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        entries
            .into_iter()
            .try_fold(self, |key, entry| key.and(entry.file_name().as_encoded_bytes()).file(&entry.path()))
    }

    fn finish(self) -> String {
        let digest = self.0.finalize();
        hex(digest.get(..ID_BYTES).unwrap_or(&digest))
    }
}

const UNFINISHED: &str = "unfinished";
const SOCKETS: &str = "s";
const UNUSED: Duration = Duration::from_secs(3 * 24 * 3600);
const ID_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artefact_is_built_once_and_a_failed_one_is_not_found() {
        let root = std::env::temp_dir().join(format!("vm-tests-cache-{}", std::process::id()));
        let cache = Cache::open(&root).unwrap();
        let failed = cache.artefact("thing", Key::of("a"), |_| anyhow::bail!("no"));
        assert!(failed.is_err());
        let first =
            cache.artefact("thing", Key::of("a"), |path| Ok(fs::write(path.join("x"), "1")?)).unwrap();
        let again = cache.artefact("thing", Key::of("a"), |_| anyhow::bail!("built twice")).unwrap();
        assert_eq!(first.path, again.path);
        assert_eq!(fs::read_to_string(again.file("x")).unwrap(), "1");
        assert_ne!(cache.artefact("thing", Key::of("b"), |_| Ok(())).unwrap().id, first.id);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn of_two_who_want_the_same_artefact_one_builds_and_the_other_waits_and_others_are_not_held_up() {
        let root = std::env::temp_dir().join(format!("vm-tests-cache-threads-{}", std::process::id()));
        let cache = Cache::open(&root).unwrap();
        let (built, meeting) = (AtomicU32::new(0), std::sync::Barrier::new(2));
        let same = || {
            cache.artefact("same", Key::of("a"), |path| {
                built.fetch_add(1, Ordering::Relaxed);
                // The other artefact is built at the same time, or this waits for ever.
                meeting.wait();
                Ok(fs::write(path.join("x"), "1")?)
            })
        };
        let other = || {
            cache.artefact("other", Key::of("a"), |_| {
                meeting.wait();
                Ok(())
            })
        };
        std::thread::scope(|scope| {
            let wanted = [scope.spawn(same), scope.spawn(same), scope.spawn(other)];
            for artefact in wanted {
                assert!(artefact.join().unwrap().unwrap().path.exists());
            }
        });
        assert_eq!(built.into_inner(), 1);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn sockets_have_paths_of_their_own() {
        let root = std::env::temp_dir().join(format!("vm-tests-cache-sockets-{}", std::process::id()));
        let cache = Cache::open(&root).unwrap();
        assert_ne!(cache.socket("tpm"), cache.clone().socket("tpm"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_key_depends_on_where_one_value_ends_and_the_next_begins() {
        assert_ne!(Key::of("ab").and("c").finish(), Key::of("a").and("bc").finish());
    }
}
