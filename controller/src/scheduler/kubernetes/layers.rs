//! What lies in an image's folders of programs: each layer's part of them, and the layers laid upon each other.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    io::{self, BufRead, BufReader, Read},
};

use flate2::bufread::MultiGzDecoder;
use ring::digest::{Context, SHA256};
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use tar::{Archive, EntryType, PaxExtensions};

/// Most programs of one layer that are looked at.
const MOST_PROGRAMS: usize = 50_000;
/// Most bytes of a layer once it is unpacked.
pub(super) const MOST_BYTES: u64 = 32 * 1024 * 1024 * 1024;
/// Most bytes of a long name in an archive.
const LONGEST_NAME: u64 = 64 * 1024;
const PIECE: usize = 64 * 1024;
/// More symbolic links than that lead in a circle.
const MOST_LINKS: usize = 40;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// One thing in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Folder,
    File,
    /// A symbolic link, and where it leads.
    Link(String),
    /// What the layers below have there is gone.
    Gone,
}

/// A layer's part of the folders of programs.
#[derive(Debug, Default)]
pub(super) struct Layer {
    things: HashMap<String, Thing>,
    /// Folders of which nothing shines through from below.
    opaque: HashSet<String>,
}

/// Why a layer could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    #[error("one of its layers is broken: {0}")]
    Broken(io::Error),
    #[error("one of its layers is not the one that its manifest names")]
    Forged,
    #[error("one of its layers has more than {MOST_PROGRAMS} files in its folders of programs")]
    Crowded,
    #[error("one of its layers is larger than {} GiB", MOST_BYTES >> 30)]
    Large,
    /// It did not come whole.
    #[error("{0}")]
    Cut(io::Error),
}

/// Whether something lies in a folder that programs are looked for in, or is such a folder.
fn is_watched(path: &str) -> bool {
    let name = path.strip_prefix("usr/").unwrap_or(path);
    matches!(path, "bin" | "usr" | "usr/bin") || name.strip_prefix("bin/").is_some_and(|name| !name.contains('/'))
}

impl Layer {
    /// Reads a layer to its end and holds it against its digest (in hex). Blocks.
    pub(super) fn read(source: impl Read, digest: &str) -> Result<Self, LayerError> {
        let mut source = Hashing { source, context: Context::new(&SHA256), failure: None };
        let layer = Self::unpack(BufReader::with_capacity(PIECE, &mut source));
        // What follows the archive's end belongs to the digest too.
        let rest = io::copy(&mut source, &mut io::sink());
        if let Some(failure) = source.failure {
            return Err(LayerError::Cut(failure));
        }
        rest.map_err(LayerError::Cut)?;
        if hex::encode(source.context.finish()) != digest {
            return Err(LayerError::Forged);
        }
        layer
    }

    fn unpack(mut packed: impl BufRead) -> Result<Self, LayerError> {
        let head = packed.fill_buf().map_err(LayerError::Broken)?;
        if head.starts_with(&GZIP) {
            Self::list(MultiGzDecoder::new(packed))
        } else if head.starts_with(&ZSTD) {
            Self::list(Frames { source: packed, decoder: FrameDecoder::new(), within: false })
        } else {
            Self::list(packed)
        }
    }

    fn list(unpacked: impl Read) -> Result<Self, LayerError> {
        let mut archive = Archive::new(unpacked.take(MOST_BYTES));
        let mut layer = Self::default();
        let (mut long_name, mut long_link) = (None, None);
        // The library reads long names whatever their length.
        for entry in archive.entries().map_err(LayerError::Broken)?.raw(true) {
            let mut entry = entry.map_err(LayerError::Broken)?;
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader) {
                let mut text = Vec::new();
                (&mut entry).take(LONGEST_NAME).read_to_end(&mut text).map_err(LayerError::Broken)?;
                let until_nul = || text.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
                match kind {
                    EntryType::GNULongName => long_name = until_nul(),
                    EntryType::GNULongLink => long_link = until_nul(),
                    _ => {
                        for extension in PaxExtensions::new(&text).flatten() {
                            match extension.key_bytes() {
                                b"path" => long_name = Some(extension.value_bytes().to_vec()),
                                b"linkpath" => long_link = Some(extension.value_bytes().to_vec()),
                                _ => {}
                            }
                        }
                    }
                }
                continue;
            }
            let name = long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
            let link = long_link.take().or_else(|| entry.header().link_name_bytes().map(Cow::into_owned));
            if matches!(kind, EntryType::XGlobalHeader) {
                continue;
            }
            layer.note(&name, kind, link.as_deref().unwrap_or_default());
            if layer.things.len() > MOST_PROGRAMS {
                return Err(LayerError::Crowded);
            }
        }
        if archive.into_inner().limit() == 0 {
            return Err(LayerError::Large);
        }
        layer.things.shrink_to_fit();
        Ok(layer)
    }

    /// Takes in one entry of the archive.
    fn note(&mut self, name: &[u8], kind: EntryType, link: &[u8]) {
        let Ok(name) = str::from_utf8(name) else { return };
        let name = name.trim_start_matches("./").trim_matches('/');
        // Folders need not be in the archive themselves.
        for folder in ["bin", "usr", "usr/bin"] {
            if name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')) {
                self.things.entry(folder.to_owned()).or_insert(Thing::Folder);
            }
        }
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        if last == ".wh..wh..opq" {
            self.opaque.insert(folder.to_owned());
        } else if let Some(gone) = last.strip_prefix(".wh.") {
            let gone = if folder.is_empty() { gone.to_owned() } else { format!("{folder}/{gone}") };
            if is_watched(&gone) {
                self.things.entry(gone).or_insert(Thing::Gone);
            }
        } else if is_watched(name) {
            let thing = match kind {
                EntryType::Directory => Thing::Folder,
                EntryType::Symlink => Thing::Link(String::from_utf8_lossy(link).into_owned()),
                _ => Thing::File,
            };
            self.things.insert(name.to_owned(), thing);
        }
    }

    /// How much it takes to remember it.
    pub(super) fn weight(&self) -> usize {
        self.things.len() + self.opaque.len() + 1
    }

    /// What this layer says of a path; none: the layer below knows.
    fn at(&self, path: &str) -> Option<&Thing> {
        if let Some(thing) = self.things.get(path) {
            return Some(thing);
        }
        let mut above = path;
        while let Some((folder, _)) = above.rsplit_once('/') {
            let hidden = !matches!(self.things.get(folder), None | Some(Thing::Folder)) || self.opaque.contains(folder);
            if hidden {
                return Some(&Thing::Gone);
            }
            above = folder;
        }
        self.opaque.contains("").then_some(&Thing::Gone)
    }
}

/// The first of some paths that leads to a program. `layers`: from the top down, all of them. A program that is a
/// link out of the folders of programs is believed.
pub(super) fn first_program<'a>(layers: &[impl AsRef<Layer>], paths: &[&'a str]) -> Option<&'a str> {
    paths.iter().copied().find(|path| leads_to_program(layers, path))
}

fn leads_to_program(layers: &[impl AsRef<Layer>], path: &str) -> bool {
    let mut links = 0;
    // Whether the last link was in the place of the program itself: one in the place of a folder says nothing of what is in it.
    let mut is_program = false;
    let mut here: Vec<String> = Vec::new();
    let mut ahead: VecDeque<String> = path.split('/').map(str::to_owned).collect();
    while let Some(step) = ahead.pop_front() {
        match step.as_str() {
            "" | "." => continue,
            ".." => {
                here.pop();
                continue;
            }
            _ => here.push(step),
        }
        let path = here.join("/");
        if !is_watched(&path) {
            return is_program;
        }
        match layers.iter().find_map(|layer| layer.as_ref().at(&path)) {
            None | Some(Thing::Gone) => return false,
            Some(Thing::Folder) => {}
            Some(Thing::File) => return ahead.is_empty(),
            Some(Thing::Link(target)) => {
                links += 1;
                is_program = ahead.is_empty();
                if links > MOST_LINKS {
                    return false;
                }
                here.pop();
                if target.starts_with('/') {
                    here.clear();
                }
                for step in target.rsplit('/') {
                    ahead.push_front(step.to_owned());
                }
            }
        }
    }
    false
}

/// Reads on while it reckons the digest, and remembers what became of the source.
struct Hashing<R> {
    source: R,
    context: Context,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.source.read(buffer) {
            Ok(count) => {
                self.context.update(buffer.get(..count).unwrap_or_default());
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.failure.get_or_insert(error);
                Err(told)
            }
        }
    }
}

/// Frames of zstd one after the other, as layers may have them.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                match self.decoder.init(&mut self.source) {
                    Ok(()) => self.within = true,
                    Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                        length, ..
                    })) => {
                        io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let wanted = BlockDecodingStrategy::UptoBytes(buffer.len());
                self.decoder.decode_blocks(&mut self.source, wanted).map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.within = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, Header};

    use super::*;

    const FOLDER: EntryType = EntryType::Directory;
    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (name, kind, target) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            if *kind == LINK {
                header.set_size(0);
                archive.append_link(&mut header, name, target).unwrap();
            } else {
                header.set_size(target.len() as u64);
                archive.append_data(&mut header, name, target.as_bytes()).unwrap();
            }
        }
        archive.into_inner().unwrap()
    }

    fn digest(bytes: &[u8]) -> String {
        hex::encode(ring::digest::digest(&SHA256, bytes))
    }

    struct Held(Layer);

    impl AsRef<Layer> for Held {
        fn as_ref(&self) -> &Layer {
            &self.0
        }
    }

    fn layer(entries: &[(&str, EntryType, &str)]) -> Held {
        let bytes = archive(entries);
        Held(Layer::read(bytes.as_slice(), &digest(&bytes)).unwrap())
    }

    fn shell(layers: &[Held]) -> Option<&'static str> {
        first_program(layers, &["/bin/bash", "/bin/sh"])
    }

    #[test]
    fn a_shell_is_found_behind_links() {
        assert_eq!(shell(&[layer(&[("./bin/bash", FILE, "")])]), Some("/bin/bash"));
        let merged = [("bin", LINK, "usr/bin"), ("usr/bin/sh", LINK, "dash"), ("usr/bin/dash", FILE, "x")];
        assert_eq!(shell(&[layer(&merged)]), Some("/bin/sh"));
        let absolute = [("bin/sh", LINK, "/bin/busybox"), ("bin/busybox", FILE, "x")];
        assert_eq!(shell(&[layer(&absolute)]), Some("/bin/sh"));
        let deep = format!("/nix/store/{}/bin/bash", "x".repeat(200));
        assert_eq!(shell(&[layer(&[("bin/sh", LINK, &deep)])]), Some("/bin/sh"));
        assert_eq!(shell(&[layer(&[("bin/sh", LINK, "../bin/sh")])]), None, "a circle");
        assert_eq!(shell(&[layer(&[("bin/sh", LINK, "gone")])]), None);
        assert_eq!(shell(&[layer(&[("bin/bash/x", FILE, ""), ("app/bin/sh", FILE, "")])]), None);
        assert_eq!(shell(&[]), None);
    }

    #[test]
    fn the_layers_above_hide_those_below() {
        let base = || layer(&[("bin", FOLDER, ""), ("bin/bash", FILE, ""), ("bin/sh", FILE, "")]);
        assert_eq!(shell(&[layer(&[("app", FILE, "")]), base()]), Some("/bin/bash"));
        assert_eq!(shell(&[layer(&[("bin/.wh.bash", FILE, "")]), base()]), Some("/bin/sh"));
        assert_eq!(shell(&[layer(&[(".wh.bin", FILE, "")]), base()]), None);
        assert_eq!(shell(&[layer(&[("bin/.wh..wh..opq", FILE, "")]), base()]), None);
        assert_eq!(shell(&[layer(&[("bin", LINK, "usr/bin")]), base()]), None);
        assert_eq!(shell(&[layer(&[("bin/.wh..wh..opq", FILE, ""), ("bin/sh", FILE, "")]), base()]), Some("/bin/sh"));
        let merged = layer(&[("bin", LINK, "usr/bin"), ("usr/bin/bash", FILE, "")]);
        assert_eq!(shell(&[layer(&[("usr/bin/.wh.bash", FILE, "")]), merged]), None);
    }

    #[test]
    fn layers_come_packed_in_several_ways() {
        let plain = archive(&[("bin/sh", FILE, "x")]);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&plain).unwrap();
        let (first, second) = plain.split_at(700);
        let mut zstd = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        zstd.splice(0..0, ruzstd::encoding::compress_to_vec(first, ruzstd::encoding::CompressionLevel::Fastest));
        zstd.extend(ruzstd::encoding::compress_to_vec(second, ruzstd::encoding::CompressionLevel::Fastest));
        for packed in [plain.clone(), gzip.finish().unwrap(), zstd] {
            let layer = Layer::read(packed.as_slice(), &digest(&packed)).unwrap();
            assert_eq!(shell(&[Held(layer)]), Some("/bin/sh"));
        }
    }

    #[test]
    fn a_layer_that_is_not_what_it_pretends_is_not_believed() {
        let bytes = archive(&[("bin/sh", FILE, "x")]);
        assert!(matches!(Layer::read(bytes.as_slice(), &digest(b"")), Err(LayerError::Forged)));
        let broken = [b"\x1f\x8b".as_slice(), &bytes].concat();
        assert!(matches!(Layer::read(broken.as_slice(), &digest(&broken)), Err(LayerError::Broken(_))));
        assert!(matches!(Layer::read(Dying, ""), Err(LayerError::Cut(_))));
    }

    struct Dying;

    impl Read for Dying {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
}
