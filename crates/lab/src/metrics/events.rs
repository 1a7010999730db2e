//! TensorBoard's event files: scalars, written without TensorFlow.
//!
//! A file is a row of records: the length of the data (u64), a masked CRC-32C of these eight bytes (u32), the data, and a
//! masked CRC-32C of the data (u32), all little-endian; the mask rotates a checksum right by 15 bits and adds `0xa282ead8`
//! (`tensorflow/core/lib/io/record_writer.h`). The data is an `Event` in protocol buffers (`tensorboard/compat/proto/event.proto`),
//! of which scalars need five fields; they are encoded here by hand, as the crates for it are unmaintained or bring a compiler.
//!
//! A resumed run begins a new file, whose `SessionLog` with status `START` tells TensorBoard to forget the points at that step
//! and later in older files. Readers take the files in the order of their names.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use crate::LabError;

/// CRC-32C.
const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Beginning of the names of event files, by which TensorBoard knows them.
const PREFIX: &str = "events.out.tfevents.";

/// An event file to which scalars are added.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a new event file in a directory, made if absent, for a run whose next step is `first`. Points of older files from
    /// that step on count no longer.
    pub fn create(directory: &Path, first: u64) -> Result<Self, LabError> {
        fs::create_dir_all(directory).map_err(|error| LabError::io(directory, error))?;
        let path = directory.join(next_name(directory).map_err(|error| LabError::io(directory, error))?);
        let file = File::create_new(&path).map_err(|error| LabError::io(&path, error))?;
        let mut events = Self { path, file };
        let mut content = Vec::new();
        record(&mut content, &event(0, |event| field_bytes(event, 3, b"brain.Event:2")));
        record(&mut content, &event(first, |event| field_bytes(event, 7, &[0x08, 1])));
        events.write(&content)?;
        Ok(events)
    }

    /// Adds the scalars of a step, by tag. Those that are not finite are left out.
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f32)]) -> Result<(), LabError> {
        let mut summary = Vec::new();
        for (tag, value) in scalars.iter().filter(|(_, value)| value.is_finite()) {
            let mut entry = Vec::new();
            field_bytes(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend(value.to_le_bytes());
            field_bytes(&mut summary, 1, &entry);
        }
        let mut content = Vec::new();
        record(&mut content, &event(step, |event| field_bytes(event, 5, &summary)));
        self.write(&content)
    }

    /// Waits until all events are on disk.
    pub fn sync(&mut self) -> Result<(), LabError> {
        self.file.sync_data().map_err(|error| LabError::io(&self.path, error))
    }

    fn write(&mut self, content: &[u8]) -> Result<(), LabError> {
        self.file.write_all(content).map_err(|error| LabError::io(&self.path, error))
    }
}

/// A name after those of all event files in a directory: `events.out.tfevents.SECONDS.NUMBER`.
fn next_name(directory: &Path) -> io::Result<String> {
    let mut seconds = now().as_secs();
    let mut number = 0;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        number += 1;
        // A clock may have been set back.
        let older = rest.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        seconds = seconds.max(older);
    }
    Ok(format!("{PREFIX}{seconds:010}.{number:06}"))
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// An `Event` of this moment: `double wall_time = 1; int64 step = 2;` and one field more.
fn event(step: u64, content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(now().as_secs_f64().to_le_bytes());
    event.push(2 << 3);
    varint(&mut event, step);
    content(&mut event);
    event
}

/// A field of bytes, text or a message.
fn field_bytes(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(field << 3 | 2);
    varint(message, content.len() as u64);
    message.extend(content);
}

/// Seven bits a byte, the lowest first.
fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

/// Frames an event.
fn record(content: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    content.extend(length);
    content.extend(masked(&length).to_le_bytes());
    content.extend(data);
    content.extend(masked(data).to_le_bytes());
}

/// The checksum of TFRecord files.
fn masked(data: &[u8]) -> u32 {
    CASTAGNOLI.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8)
}
