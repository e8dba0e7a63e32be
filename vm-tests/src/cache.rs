//! Artefacts by content.
//!
//! In: a noun, a key over every input, and a recipe that fills an empty directory. Out: the
//! directory, built now or found from an earlier run. Trusts the file system only: an artefact is
//! built beside its place and renamed when complete, so a half-built one is never found.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The directory of all artefacts; one process at a time uses it.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    _lock: Arc<File>,
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
        let unfinished = root.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).context("Removing what an earlier run left")?;
        }
        let cache = Self { root, _lock: Arc::new(lock) };
        cache.forget_the_unused()?;
        Ok(cache)
    }

    /// The artefact `noun` for `key`, built by `recipe` if it is not there yet.
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
        if !path.exists() {
            let started = Instant::now();
            let unfinished = self.root.join(UNFINISHED).join(&id);
            fs::create_dir_all(&unfinished)?;
            recipe(&unfinished).with_context(|| format!("Building {id}"))?;
            fs::rename(&unfinished, &path)?;
            println!("built {id} in {:.1} s", started.elapsed().as_secs_f64());
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

/// A finished artefact: a directory that nobody changes any more.
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
        crate::hex(digest.get(..ID_BYTES).unwrap_or(&digest))
    }
}

const UNFINISHED: &str = "unfinished";
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
    fn a_key_depends_on_where_one_value_ends_and_the_next_begins() {
        assert_ne!(Key::of("ab").and("c").finish(), Key::of("a").and("bc").finish());
    }
}
