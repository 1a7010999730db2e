//! Smoke.
use sinkscope_model::{Model, data::TokenBatch, pass::Pass, tap::*};
struct Nll {
    sum: f64,
    n: usize,
}
impl Tap for Nll {
    type Partial = (f64, usize);
    fn wants(&self, p: Point, _b: usize) -> bool {
        p == Point::Prediction
    }
    fn observe(&self, e: &Event<'_>) -> (f64, usize) {
        if let EventData::Nll(v) = e.data { (v.iter().map(|&x| x as f64).sum(), v.len()) } else { (0., 0) }
    }
    fn merge(&mut self, _: Point, _: &Place, p: (f64, usize)) {
        self.sum += p.0;
        self.n += p.1;
    }
}
struct Max(Vec<f32>);
impl Tap for Max {
    type Partial = f32;
    fn wants(&self, p: Point, _b: usize) -> bool {
        p == Point::Residual
    }
    fn observe(&self, e: &Event<'_>) -> f32 {
        if let EventData::Rows(v) = e.data { v.iter().fold(0.0, |m, x| x.abs().max(m)) } else { 0. }
    }
    fn merge(&mut self, _: Point, pl: &Place, p: f32) {
        if self.0.len() <= pl.block {
            self.0.resize(pl.block + 1, 0.)
        }
        self.0[pl.block] = self.0[pl.block].max(p);
    }
}
struct Scan(Vec<f64>);
impl Tap for Scan {
    type Partial = f64;
    fn wants(&self, p: Point, _b: usize) -> bool {
        p == Point::Attention
    }
    fn observe(&self, e: &Event<'_>) -> f64 {
        if let EventData::Attention(s) = e.data { s.received.iter().map(|&x| x as f64).sum() } else { 0. }
    }
    fn merge(&mut self, _: Point, pl: &Place, p: f64) {
        if self.0.len() <= pl.block {
            self.0.resize(pl.block + 1, 0.)
        }
        self.0[pl.block] += p;
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let model = Model::open(&args[1]).unwrap();
    let d: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string("/work/shared/reference/smollm2-135m-q4_1.json").unwrap())
            .unwrap();
    let batch = if args.len() > 3 {
        let (n, t): (usize, usize) = (args[2].parse().unwrap(), args[3].parse().unwrap());
        TokenBatch {
            tokens: (0..n * t)
                .map(|i| ((i as u64 * 2654435761u64) % (model.architecture().vocabulary as u64)) as u32)
                .collect(),
            sequences: n,
            seq_len: t,
        }
    } else {
        TokenBatch {
            tokens: d["tokens"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|r| r.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32))
                .collect(),
            sequences: 32,
            seq_len: 64,
        }
    };
    let mut nll = Nll { sum: 0., n: 0 };
    let mut max = Max(vec![]);
    let mut scan = Scan(vec![]);
    let threads: usize = std::env::var("THREADS").ok().and_then(|v| v.parse().ok()).unwrap_or(2);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let rep = pool.install(|| Pass::new(&model, 8 << 30).run(&batch, &mut [&mut nll, &mut max, &mut scan]).unwrap());
    println!("{rep:?} {:.0} tok/s {:.1} GF/s", rep.tokens as f64 / rep.seconds, rep.flops / rep.seconds / 1e9);
    println!("nll {} n {} ref {}", nll.sum / nll.n as f64, nll.n, d["nll_mean_per_predicted_token"]);
    println!("max {:?}", &max.0.iter().cloned().fold(0., f32::max));
    println!("peak {:.1} GF/s/core", sinkscope_kernels::peak::flops_per_second() / 1e9);
}
