//! How fast weights become f32, on one core, the check for finite values included: a tensor of 1024 x 1024.
//!
//!     taskset -c 0 cargo bench -p sinkscope-model --bench decode
#![allow(missing_docs, clippy::unwrap_used, reason = "the macros of criterion; a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sinkscope_sources::checkpoint::{Checkpoint, DType};

#[path = "../tests/checkpoint/write.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod write;

const SIDE: usize = 1024;

fn decode(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    for dtype in DType::ALL {
        // Every byte 0x11: as an f16, an f32 or codes, a small finite number.
        let stored = vec![0x11; SIDE * SIDE / dtype.block_len() * dtype.block_bytes()];
        let dims = [SIDE as u64, SIDE as u64];
        let file = write::Gguf::new().tensor("w", &dims, write::gguf_number(dtype.name()), &stored);
        let checkpoint = Checkpoint::open_path(&file.write(folder.path())).unwrap();
        let tensor = checkpoint.tensor("w").unwrap();
        let mut out = vec![0.0; 256 * SIDE];
        group.bench_function(dtype.name(), |bencher| {
            bencher.iter(|| {
                for first in (0..SIDE).step_by(256) {
                    tensor.decode_rows(first..first + 256, &mut out).unwrap();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
