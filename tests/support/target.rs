//! A volume that the TPM opens, for forgeries of its header: each is refused with a slug, or opens.

use serde_json::Value;

use super::forge::Forge;
use super::image::Image;
use super::swtpm::Swtpm;

/// An enrolled volume that opens, and its TPM.
pub struct Target {
    pub tpm: Swtpm,
    pub image: Image,
    pub sound: Vec<u8>,
    /// The keyslot that the TPM's secret opens.
    pub keyslot: u32,
}

impl Target {
    pub fn new() -> Self {
        let (tpm, image) = (Swtpm::new(), Image::new());
        let enrolled = image.enroll(&tpm, "7");
        let keyslot = u32::try_from(enrolled["keyslot"].as_u64().unwrap()).unwrap();
        let sound = std::fs::read(image.path()).unwrap();
        let target = Self { tpm, image, sound, keyslot };
        target.opens(&target.forge());
        target
    }

    pub fn forge(&self) -> Forge {
        Forge::of(&self.sound)
    }

    /// The slug with which a volume is refused; `None` if it would open.
    pub fn refusal(&self, volume: &Forge) -> Option<String> {
        std::fs::write(self.image.path(), volume.volume()).unwrap();
        let run = self.image.dry_run(&self.tpm);
        (run.code != 0).then(|| run.slug())
    }

    pub fn opens(&self, volume: &Forge) {
        assert_eq!(self.refusal(volume), None);
    }

    pub fn refuses(&self, volume: &Forge, slug: &str, attack: &str) {
        assert_eq!(self.refusal(volume).as_deref(), Some(slug), "{attack}");
    }

    /// Checks that each forgery is refused with its slug, and then that the untouched volume opens.
    pub fn refuses_each(&self, table: &[(&str, &str, Value)]) {
        for (slug, pointer, value) in table {
            let pointer = pointer.replace("/K/", &format!("/{}/", self.keyslot));
            self.refuses(&self.forge().set(&pointer, value), slug, &format!("{pointer} = {value}"));
        }
        self.opens(&self.forge());
    }

    /// Whether the host's cryptsetup opens the disk with this passphrase.
    pub fn cryptsetup_opens(&self, volume: &Forge, passphrase: &str) -> bool {
        std::fs::write(self.image.path(), volume.volume()).unwrap();
        self.image.opens_with(passphrase)
    }
}
