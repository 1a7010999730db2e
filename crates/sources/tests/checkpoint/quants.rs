//! Decoding is bit-equal to the reference: scripts/make_quant_fixtures.py wrote the fixtures.

use std::path::Path;

use sinkscope_sources::checkpoint::{Checkpoint, DType};

use crate::write::{Gguf, gguf_number};

fn fixture(dtype: DType) -> (Vec<u8>, Vec<u32>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quants");
    let name = dtype.name().to_lowercase();
    let stored = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
    let expected = std::fs::read(folder.join(format!("{name}.f32"))).unwrap();
    (stored, expected.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
}

#[test]
fn every_type_decodes_as_the_reference_does() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in DType::ALL {
        let (stored, expected) = fixture(dtype);
        assert_eq!(stored.len() / dtype.block_bytes() * dtype.block_len(), expected.len());
        let row_len = expected.len() / 2;
        let file = Gguf::new().tensor("w", &[row_len as u64, 2], gguf_number(dtype.name()), &stored);
        let checkpoint = Checkpoint::open_path(&file.write(folder.path())).unwrap();
        let tensor = checkpoint.tensor("w").unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[2, row_len][..]));

        let bits: Vec<_> = tensor.decode().unwrap().iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, expected, "{dtype}");

        let mut second = vec![0.0; row_len];
        tensor.decode_rows(1..2, &mut second).unwrap();
        let bits: Vec<_> = second.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, expected[row_len..], "{dtype}, second row alone");
    }
}

#[test]
fn long_rows_are_decoded_in_strips_without_seams() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in DType::ALL {
        let (stored, expected) = fixture(dtype);
        let repeats = 3 * 4096 / expected.len() + 2;
        let file = Gguf::new().tensor(
            "w",
            &[(expected.len() * repeats) as u64],
            gguf_number(dtype.name()),
            &stored.repeat(repeats),
        );
        let checkpoint = Checkpoint::open_path(&file.write(folder.path())).unwrap();
        let bits: Vec<_> = checkpoint.tensor("w").unwrap().decode().unwrap().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, expected.repeat(repeats), "{dtype}");
    }
}
