//! Records of a run: resumed ones equal uninterrupted ones, and TensorBoard's files parse.

use std::fs;
use std::path::Path;

use serde::Serialize;
use sinkscope_lab::LabError;
use sinkscope_lab::metrics::Metrics;

#[derive(Serialize)]
struct Values {
    loss: f32,
    sinks: Sinks,
    born: bool,
}

#[derive(Serialize)]
struct Sinks {
    ratio: f64,
    by_layer: [f32; 2],
}

#[derive(Serialize)]
struct Timing {
    tokens_per_second: f64,
}

fn record(metrics: &mut Metrics, step: u64, tokens_per_second: f64) {
    let part = step as f32 / 7.0;
    let values = Values {
        loss: 0.1 + part,
        sinks: Sinks { ratio: f64::from(part), by_layer: [part, if step == 3 { f32::NAN } else { 2.0 * part }] },
        born: step > 2,
    };
    metrics.record(step, &values, &Timing { tokens_per_second }).expect("recorded");
}

/// Two records a step from `first` to `last`, as of a loss and of an evaluation.
fn records(run: &Path, resumed_from: Option<u64>, last: u64, tokens_per_second: f64) -> Metrics {
    let mut metrics = Metrics::open(run, resumed_from).expect("opened");
    for step in resumed_from.map_or(0, |step| step + 1)..=last {
        record(&mut metrics, step, tokens_per_second);
        record(&mut metrics, step, tokens_per_second);
    }
    metrics
}

fn lines(run: &Path) -> String {
    fs::read_to_string(run.join("metrics.jsonl")).expect("a file")
}

#[test]
fn a_resumed_run_has_the_records_of_an_uninterrupted_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = directory.path();
    drop(records(run, None, 9, 5.0));
    let whole = lines(run);
    assert_eq!(
        whole.lines().next(),
        Some(
            r#"{"step":0,"loss":0.1,"sinks":{"ratio":0.0,"by_layer":[0.0,0.0]},"born":false,"timing":{"tokens_per_second":5.0}}"#
        )
    );
    assert!(whole.contains(r#""by_layer":[0.42857143,null]"#), "{whole}");
    assert_eq!(whole.lines().count(), 20);
    for (stopped, resumed) in [(9, 4), (4, 4), (9, 0), (9, 9)] {
        for torn in ["", "{", "{\"step\":5,\"lo", "\u{0}\u{0}\u{0}", "{\"step\":5}\u{0}\n"] {
            drop(records(run, None, stopped, 5.0));
            fs::write(run.join("metrics.jsonl"), lines(run) + torn).expect("written");
            drop(records(run, Some(resumed), 9, 6.0));
            assert_eq!(lines(run).replace("_second\":6.0", "_second\":5.0"), whole, "{stopped} {resumed} {torn:?}");
        }
    }
    // Anew: nothing of before.
    drop(records(run, None, 9, 5.0));
    assert_eq!(lines(run), whole);
}

#[test]
fn a_damaged_record_in_the_middle_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(records(directory.path(), None, 3, 5.0));
    let damaged = lines(directory.path()).replacen("{\"step\":1", "{\"stop\":1", 1);
    fs::write(directory.path().join("metrics.jsonl"), &damaged).expect("written");
    let error = Metrics::open(directory.path(), Some(2)).expect_err("damaged").to_string();
    assert!(error.contains("metrics.jsonl: line 3 is no record with a step"), "{error}");
    assert_eq!(lines(directory.path()), damaged);
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut metrics = records(directory.path(), None, 3, 5.0);
    let before = lines(directory.path());
    let timing = Timing { tokens_per_second: 1.0 };
    let refusals = [
        metrics.record(2, &timing, &timing),
        metrics.record(4, &3, &timing),
        metrics.record(4, &timing, &3),
        metrics.record(4, &serde_json::json!({"step": 4}), &timing),
        metrics.record(4, &serde_json::json!({"timing": 4}), &timing),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(LabError::Request(_))), "{refusal:?}");
    }
    assert_eq!(lines(directory.path()), before);
    drop(metrics);
    // A resumed file knows its last step.
    let mut metrics = Metrics::open(directory.path(), Some(2)).expect("opened");
    metrics.record(1, &timing, &timing).expect_err("before the last");
    metrics.sync().expect("on disk");
}

/// An event as it is read: step, what it says, scalars.
#[derive(Debug, PartialEq)]
enum Event {
    Version(u64, String),
    Start(u64),
    Scalars(u64, Vec<(String, f32)>),
}

/// CRC-32C, a bit at a time.
fn crc(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xA282_EAD8).rotate_left(15)
}

fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(count);
    *data = rest;
    taken
}

fn u32_of(data: &mut &[u8]) -> u32 {
    u32::from_le_bytes(take(data, 4).try_into().expect("four bytes"))
}

fn u64_of(data: &mut &[u8]) -> u64 {
    u64::from_le_bytes(take(data, 8).try_into().expect("eight bytes"))
}

fn varint(data: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = take(data, 1)[0];
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return number;
        }
    }
    unreachable!()
}

/// Fields of a message: number, its integer or bits, its bytes.
fn fields(mut data: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut fields = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let (number, bytes): (u64, &[u8]) = match key & 7 {
            0 => (varint(&mut data), &[]),
            1 => (u64_of(&mut data), &[]),
            2 => {
                let length = varint(&mut data) as usize;
                (0, take(&mut data, length))
            }
            5 => (u64::from(u32_of(&mut data)), &[]),
            other => unreachable!("no wire type {other} is written"),
        };
        fields.push((key >> 3, number, bytes));
    }
    fields
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Reads an event file by its specification, with both checksums.
fn events(file: &Path) -> Vec<Event> {
    let content = fs::read(file).expect("a file");
    let mut data = &content[..];
    let mut events = Vec::new();
    while !data.is_empty() {
        let length_crc = crc(&data[..8]);
        let length = u64_of(&mut data) as usize;
        assert_eq!(unmask(u32_of(&mut data)), length_crc);
        let event = take(&mut data, length);
        assert_eq!(unmask(u32_of(&mut data)), crc(event));
        let parts = fields(event);
        assert_eq!((parts[0].0, parts[1].0, parts.len()), (1, 2, 3));
        assert!(f64::from_bits(parts[0].1) > 1.6e9, "a time after 2020");
        let (step, (field, _, content)) = (parts[1].1, parts[2]);
        events.push(match field {
            3 => Event::Version(step, text(content)),
            7 => {
                assert_eq!(fields(content), [(1, 1, &[][..])]);
                Event::Start(step)
            }
            5 => Event::Scalars(
                step,
                fields(content)
                    .into_iter()
                    .map(|(field, _, value)| {
                        let value = fields(value);
                        assert_eq!((field, value[0].0, value[1].0, value.len()), (1, 1, 2, 2));
                        (text(value[0].2), f32::from_bits(value[1].1 as u32))
                    })
                    .collect(),
            ),
            other => unreachable!("no field {other} is written"),
        });
    }
    events
}

#[test]
fn checksums_are_those_of_the_literature() {
    // RFC 3720, B.4.
    assert_eq!(crc(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc(b"123456789"), 0xE306_9283);
}

#[test]
fn event_files_hold_every_number() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(records(directory.path(), None, 300, 5.0));
    drop(records(directory.path(), Some(200), 201, 6.0));
    let mut files: Vec<_> = fs::read_dir(directory.path().join("tensorboard"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2);

    let first = events(&files[0]);
    assert_eq!(first[..2], [Event::Version(0, "brain.Event:2".into()), Event::Start(0)]);
    assert_eq!(first.len(), 2 + 2 * 301);
    for (index, event) in first[2..].iter().enumerate() {
        let step = index as u64 / 2;
        let part = step as f32 / 7.0;
        let mut expected = vec![
            ("loss".to_owned(), 0.1 + part),
            ("sinks/ratio".to_owned(), part),
            ("sinks/by_layer/0".to_owned(), part),
        ];
        if step != 3 {
            expected.push(("sinks/by_layer/1".to_owned(), 2.0 * part));
        }
        expected.push(("timing/tokens_per_second".to_owned(), 5.0));
        assert_eq!(*event, Event::Scalars(step, expected));
    }
    let second = events(&files[1]);
    assert_eq!(second[..2], [Event::Version(0, "brain.Event:2".into()), Event::Start(201)]);
    assert!(matches!(&second[2], Event::Scalars(201, scalars) if scalars.len() == 5));
    assert_eq!(second.len(), 4);
}
