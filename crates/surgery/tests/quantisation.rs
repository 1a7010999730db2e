//! Quantised layers and caches against a naive way to do it: every scale and code by hand, every row by itself.

mod fixture;

use std::collections::BTreeMap;
use std::sync::Mutex;

use sinkscope_anatomy::nll::NllTap;
use sinkscope_kernels::microscaling::{Blocks, quantise_blocks, rotate};
use sinkscope_model::blocks::{Product, Projection};
use sinkscope_model::edit::{Edit, LinearBlock, LinearEdit};
use sinkscope_model::pass::Pass;
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_model::{Linear, Model};
use sinkscope_sources::data::TokenBatch;
use sinkscope_surgery::compare::Request;
use sinkscope_surgery::quantise::{CacheEdit, CacheFormat, Chosen, MaximaTap, QuantisedLayers, Scheme};
use sinkscope_surgery::results::{Comparison, Variant};

use crate::fixture::{FAMILIES, PLENTY, batch, model, request, run};

fn all_layers(model: &Model) -> Chosen {
    let tensors = model.layer_tensors().into_iter();
    tensors.filter_map(|tensor| Some(((tensor.block, tensor.projection?), tensor.name))).collect()
}

/// A grid by its name: the largest point, and the point nearest to a number.
#[derive(Clone, Copy)]
enum Points {
    Integer(f32),
    E4m3,
    E5m2,
}

impl Points {
    fn largest(self) -> f32 {
        match self {
            Self::Integer(largest) => largest,
            Self::E4m3 => 448.0,
            Self::E5m2 => 57_344.0,
        }
    }

    fn nearest(self, x: f32) -> f32 {
        match self {
            Self::Integer(largest) => x.round_ties_even().max(-largest).min(largest),
            Self::E4m3 | Self::E5m2 => {
                // The points around a magnitude are 2^(e - bits) apart, e its exponent, which has a least.
                let (bits, least) = if matches!(self, Self::E4m3) { (3.0, -6.0) } else { (2.0, -14.0) };
                let largest = f64::from(self.largest());
                let magnitude = f64::from(x.abs()).min(largest);
                let exponent = if magnitude > 0.0 { magnitude.log2().floor().max(least) } else { least };
                let step = 2.0_f64.powf(exponent - bits);
                ((magnitude / step).round_ties_even() * step).min(largest).copysign(f64::from(x)) as f32
            }
        }
    }

    fn group(self, values: &mut [&mut f32]) {
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = largest / self.largest();
        for value in values {
            **value = if scale == 0.0 { 0.0 } else { self.nearest(**value / scale) * scale };
        }
    }
}

/// The rows of a sequence by position.
type Rows = BTreeMap<usize, Vec<f32>>;

/// What a scheme's name says.
struct Naive {
    weights: Option<(Points, Option<usize>)>,
    inputs: Option<(Points, bool)>,
    /// By block, input and sequence: the largest magnitude of every channel that counts for the sequence.
    smooth: Option<BTreeMap<(usize, Point, usize), Vec<f32>>>,
    /// By block, input and sequence: the largest magnitude that is known beforehand.
    fixed: Option<BTreeMap<(usize, Point, usize), f32>>,
    /// Blocks of inputs and of weights.
    blocks: (Option<Blocks>, Option<Blocks>),
    rotate: bool,
    kept: fn(usize) -> bool,
    exempt: fn(usize, Projection) -> bool,
    /// By block, input and sequence, all rows.
    measured: Mutex<BTreeMap<(usize, Point, usize), Rows>>,
}

fn naive(scheme: &str) -> Naive {
    let int = |bits: i32| Points::Integer((2.0_f32.powi(bits - 1)) - 1.0);
    let (scheme, rotate) = scheme.strip_prefix("hadamard-").map_or((scheme, false), |scheme| (scheme, true));
    let both = |blocks| (Some(blocks), Some(blocks));
    let blocks = match scheme {
        "q8_0" => both(Blocks::Q8_0),
        "mxfp4" => both(Blocks::Mxfp4),
        "nvfp4" => both(Blocks::Nvfp4),
        "w-mxfp4" => (None, Some(Blocks::Mxfp4)),
        "a-nvfp4" => (Some(Blocks::Nvfp4), None),
        _ => (None, None),
    };
    let (weights, inputs) = match scheme {
        _ if blocks != (None, None) => (None, None),
        "w8" => (Some((int(8), None)), None),
        "w4-g4" => (Some((int(4), Some(4))), None),
        "w3-g8" => (Some((int(3), Some(8))), None),
        "a8-tensor" => (None, Some((int(8), true))),
        "a8-token" => (None, Some((int(8), false))),
        "w8a8-tensor" | "smooth-w8a8-tensor" => (Some((int(8), None)), Some((int(8), true))),
        "w8a8-token" | "smooth-w8a8" | "smooth-w8a8-token" => (Some((int(8), None)), Some((int(8), false))),
        "w4a8-tensor" => (Some((int(4), None)), Some((int(8), true))),
        "w4a8-token" => (Some((int(4), None)), Some((int(8), false))),
        "fp8-e4m3" => (Some((Points::E4m3, None)), Some((Points::E4m3, true))),
        "fp8-e5m2" => (Some((Points::E5m2, None)), Some((Points::E5m2, true))),
        "w-fp8-e5m2" => (Some((Points::E5m2, None)), None),
        "a-fp8-e4m3" => (None, Some((Points::E4m3, true))),
        _ => unreachable!("{scheme} is not one of the schemes tried"),
    };
    Naive {
        weights,
        inputs,
        smooth: None,
        fixed: None,
        blocks,
        rotate,
        kept: |_| false,
        exempt: |_, _| false,
        measured: Mutex::default(),
    }
}

struct NaiveBlock<'e> {
    naive: &'e Naive,
    block: usize,
}

impl LinearEdit for Naive {
    fn wants(&self, _block: usize) -> bool {
        true
    }

    fn measures(&self) -> bool {
        true
    }

    fn begin<'e>(&'e self, block: usize, _linears: &[(Projection, &Linear<f32>)]) -> Box<dyn LinearBlock + 'e> {
        Box::new(NaiveBlock { naive: self, block })
    }
}

impl NaiveBlock<'_> {
    fn keep(&self, input: Point, place: &Place, x: &[f32]) {
        let mut measured = self.naive.measured.lock().expect("whole");
        let rows = measured.entry((self.block, input, place.sequence)).or_default();
        for (row, values) in x.chunks_exact(x.len() / place.rows).enumerate() {
            rows.insert(place.position + row, values.to_vec());
        }
    }

    fn factors(&self, input: Point, sequence: usize, products: &[Product<'_, f32>]) -> Option<Vec<f32>> {
        let maxima = &self.naive.smooth.as_ref()?[&(self.block, input, sequence)];
        let weight = |channel: usize| {
            let all = products.iter().flat_map(|product| {
                (0..product.linear.outputs()).map(move |output| product.linear.weight().get(channel, output))
            });
            all.fold(0.0_f32, |largest, weight| largest.max(weight.abs()))
        };
        Some(maxima.iter().enumerate().map(|(channel, maximum)| maximum.sqrt() / weight(channel).sqrt()).collect())
    }
}

impl LinearBlock for NaiveBlock<'_> {
    fn measure(&self, input: Point, place: &Place, x: &[f32]) {
        self.keep(input, place, x);
    }

    fn multiply(&self, input: Point, places: &[Place], x: &[f32], products: &mut [Product<'_, f32>]) {
        let rows: usize = places.iter().map(|place| place.rows).sum();
        let width = x.len() / rows;
        let mut first = 0;
        for place in places {
            let own = &x[first * width..(first + place.rows) * width];
            self.keep(input, place, own);
            let factors = self.factors(input, place.sequence, products);
            let measured = self.naive.measured.lock().expect("whole");
            let sequence = &measured[&(self.block, input, place.sequence)];
            let transform = |values: &mut [f32]| {
                if let Some(factors) = &factors {
                    values.iter_mut().zip(factors).for_each(|(value, factor)| *value /= factor);
                }
                if self.naive.rotate {
                    rotate(values);
                }
            };
            let counted = sequence.iter().filter(|(position, _)| !(self.naive.kept)(**position));
            let largest = counted.map(|(_, row)| row.clone()).fold(0.0_f32, |largest, mut row| {
                transform(&mut row);
                row.iter().fold(largest, |largest, value| largest.max(value.abs()))
            });
            let fixed = self.naive.fixed.as_ref().map(|fixed| fixed[&(self.block, input, place.sequence)]);
            let largest = fixed.unwrap_or(largest);
            let mut given = own.to_vec();
            for (row, values) in given.chunks_exact_mut(width).enumerate() {
                if (self.naive.kept)(place.position + row) {
                    continue;
                }
                transform(values);
                if let Some(blocks) = self.naive.blocks.0 {
                    quantise_blocks(values, blocks, largest);
                }
                match self.naive.inputs {
                    None => {}
                    Some((points, false)) => points.group(&mut values.iter_mut().collect::<Vec<_>>()),
                    Some((points, true)) => {
                        let scale = largest / points.largest();
                        for value in values {
                            *value = if scale == 0.0 { 0.0 } else { points.nearest(*value / scale) * scale };
                        }
                    }
                }
            }
            for product in products.iter_mut() {
                let outputs = product.linear.outputs();
                if (self.naive.exempt)(self.block, product.projection) {
                    let out = &mut product.out[first * outputs..(first + place.rows) * outputs];
                    product.linear.forward(out, own);
                    continue;
                }
                let mut weights = product.linear.weight().to_vec();
                if let Some(factors) = &factors {
                    for (row, factor) in weights.chunks_exact_mut(outputs).zip(factors) {
                        for weight in row {
                            *weight *= factor;
                        }
                    }
                }
                let of_all = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
                for output in 0..outputs {
                    let column = || (0..width).map(|input| input * outputs + output);
                    let mut upright: Vec<f32> = column().map(|at| weights[at]).collect();
                    if self.naive.rotate {
                        rotate(&mut upright);
                    }
                    if let Some(blocks) = self.naive.blocks.1 {
                        quantise_blocks(&mut upright, blocks, of_all);
                    }
                    column().zip(upright).for_each(|(at, weight)| weights[at] = weight);
                }
                if let Some((points, group)) = self.naive.weights {
                    for rows in weights.chunks_mut(group.unwrap_or(width) * outputs) {
                        for output in 0..outputs {
                            points.group(&mut rows.iter_mut().skip(output).step_by(outputs).collect::<Vec<_>>());
                        }
                    }
                }
                let out = &mut product.out[first * outputs..(first + place.rows) * outputs];
                let linear = Linear::new(&weights, product.linear.bias.clone(), width, outputs);
                linear.forward(out, &given);
                let mut plain = vec![0.0; out.len()];
                product.linear.forward(&mut plain, own);
                for row in (0..place.rows).filter(|row| (self.naive.kept)(place.position + row)) {
                    out[row * outputs..(row + 1) * outputs].copy_from_slice(&plain[row * outputs..(row + 1) * outputs]);
                }
            }
            first += place.rows;
        }
    }
}

fn nll_of(model: &Model, batch: &TokenBatch, linears: Option<&dyn LinearEdit>, edit: Option<&dyn Edit>) -> Vec<f32> {
    let mut nll = NllTap::new(model.architecture().layer_count(), 0, batch.sequences).with_predictions();
    let mut pass = Pass::new(model, PLENTY);
    if let Some(linears) = linears {
        pass = pass.with_linears(linears);
    }
    if let Some(edit) = edit {
        pass = pass.with_edit(edit);
    }
    pass.run(batch, &mut [&mut nll]).expect("a pass");
    nll.predictions().to_vec()
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
}

/// By position as well. A product blocked in another way has other last bits, which can move a value to the next code: so
/// nearly all positions agree closely, and all agree roughly.
fn agrees(what: &str, found: &Comparison, expected: &[f32], untouched: &[f32], seq_len: usize) {
    let variant = &found.variants[0];
    let change = (mean(expected) - mean(untouched)).abs();
    assert_ne!(expected, untouched, "{what}: what changes nothing is no test");
    assert!((variant.nll.expect("targets") - mean(expected)).abs() < 1e-6 + 0.02 * change, "{what}: {variant:?}");
    let sequences = expected.len() / (seq_len - 1);
    let positions = found.positions.iter().filter(|row| row.name == variant.name);
    let far = positions
        .enumerate()
        .filter(|(at, row)| {
            let rows = expected.iter().skip(*at).step_by(seq_len - 1).map(|&nll| f64::from(nll));
            (row.nll - rows.sum::<f64>() / sequences as f64).abs() > 2e-5
        })
        .count();
    assert!(far * 10 <= seq_len, "{what}: {far} of {seq_len} positions differ");
}

const SCHEMES: [&str; 17] = [
    "w8",
    "w4-g4",
    "w3-g8",
    "a8-tensor",
    "a8-token",
    "w8a8-tensor",
    "w8a8-token",
    "w4a8-tensor",
    "w4a8-token",
    "fp8-e4m3",
    "fp8-e5m2",
    "w-fp8-e5m2",
    "a-fp8-e4m3",
    "hadamard-a8-tensor",
    "hadamard-w8a8-token",
    "hadamard-w8a8-tensor",
    "hadamard-w4-g4",
];

#[test]
fn schemes_are_their_naive_forms() {
    for family in FAMILIES {
        let model = model(family);
        let batch = batch(4, 9);
        let untouched = nll_of(&model, &batch, None, None);
        for scheme in SCHEMES {
            for kept in [false, true] {
                let mut naive = naive(scheme);
                let mut operation = format!("quantize={scheme}");
                if kept {
                    naive.kept = |position| position == 2;
                    operation += "@position=2+keep-spikes";
                }
                let expected = nll_of(&model, &batch, Some(&naive), None);
                let found = run(&model, &batch, &request(&[&operation]), PLENTY).expect(&operation);
                agrees(&format!("{family} {operation}"), &found, &expected, &untouched, 9);
                assert_eq!(found.variants[0].kept_tokens, kept.then_some(4));
            }
        }
    }
}

#[test]
fn exempt_layers_are_as_they_are() {
    type Exempt = fn(usize, Projection) -> bool;
    let down: Exempt = |_, projection| projection == Projection::Down;
    let (last, first): (Exempt, Exempt) = (|block, _| block > 2, |block, _| block < 3);
    let of_two: Exempt =
        |block, projection| block == 4 && projection == Projection::Up || projection == Projection::Value;
    let batch = batch(4, 9);
    for (family, names, exempt) in [
        ("llama", "+except=down_proj", down),
        ("llama", "+except=down", down),
        ("llama", "+only=q_proj,k_proj,value,attention-output,gate,up", down),
        ("gpt2", "+except=layer=1", last),
        ("llama", "+only=block=1-2", last),
        ("llama", "+except=model.layers.0", first),
        ("llama", "@layer=1", first),
        ("llama", "+except=self_attn.v_proj,model.layers.1.mlp.up_proj.weight", of_two),
    ] {
        let model = model(family);
        let untouched = nll_of(&model, &batch, None, None);
        for scheme in ["w3-g8", "w8a8-tensor"] {
            let naive = Naive { exempt, ..naive(scheme) };
            let expected = nll_of(&model, &batch, Some(&naive), None);
            let operation = format!("quantize={scheme}{names}");
            let found = run(&model, &batch, &request(&[&operation]), PLENTY).expect(&operation);
            agrees(&format!("{family} {operation}"), &found, &expected, &untouched, 9);
            let layers = &found.variants[0].linear_layers;
            let wanted = model.layer_tensors();
            let wanted = wanted.iter().filter(|tensor| tensor.projection.is_some_and(|of| !exempt(tensor.block, of)));
            let wanted: Vec<&str> = wanted.map(|tensor| tensor.name.as_str()).collect();
            assert_eq!(layers.iter().map(|layer| layer.tensor.as_str()).collect::<Vec<_>>(), wanted, "{operation}");
        }
    }
}

/// Longer than a tile, where scales of a sequence must be known before its first product.
#[test]
fn long_sequences_share_one_scale() {
    for family in ["llama", "gpt-neox"] {
        let model = model(family);
        let batch = batch(2, 300);
        let untouched = nll_of(&model, &batch, None, None);
        for scheme in ["a8-tensor", "w8a8-tensor", "fp8-e4m3", "a8-token", "hadamard-a8-tensor"] {
            let mut naive = naive(scheme);
            naive.kept = |position| position == 270;
            let operation = format!("quantize={scheme}@position=270+keep-spikes");
            let expected = nll_of(&model, &batch, Some(&naive), None);
            let found = run(&model, &batch, &request(&[&operation]), PLENTY).expect(&operation);
            agrees(&format!("{family} {operation}"), &found, &expected, &untouched, 300);
        }
    }
}

/// The largest magnitudes of other sequences, row by row.
fn smoothing(model: &Model, batch: &TokenBatch, kept: fn(usize) -> bool) -> BTreeMap<(usize, Point, usize), Vec<f32>> {
    let watch = Naive { weights: None, ..naive("w8") };
    nll_of(model, batch, Some(&watch), None);
    let measured = watch.measured.into_inner().expect("whole");
    let maxima = |&(block, input, sequence): &(usize, Point, usize)| {
        let others = measured.iter().filter(|(key, _)| key.0 == block && key.1 == input && key.2 != sequence);
        let rows: Vec<&Vec<f32>> =
            others.flat_map(|(_, rows)| rows.iter().filter(|(at, _)| !kept(**at)).map(|(_, row)| row)).collect();
        let channel = |at: usize| rows.iter().fold(0.0_f32, |largest, row| largest.max(row[at].abs()));
        ((block, input, sequence), (0..rows[0].len()).map(channel).collect())
    };
    measured.keys().map(maxima).collect()
}

#[test]
fn smoothing_takes_the_maxima_of_other_sequences() {
    for family in FAMILIES {
        let model = model(family);
        let batch = batch(3, 9);
        let untouched = nll_of(&model, &batch, None, None);
        let both =
            run(&model, &batch, &request(&["quantize=w8a8-token", "quantize=smooth-w8a8"]), PLENTY).expect("two");
        let [pair] = &both.smoothing[..] else { unreachable!("one pair: {:?}", both.smoothing) };
        let loss = |index: usize| both.variants[index].delta_nll.expect("targets");
        assert_eq!((pair.smoothed, pair.plain), (1, 0));
        assert!((pair.difference - (loss(1) - loss(0))).abs() < 1e-12);
        let [low, high] = pair.difference_ci95.expect("sequences");
        assert!(low <= pair.difference && pair.difference <= high);
        assert!(both.advice.iter().any(|line| line.about == "smoothing" && line.figure == pair.difference));
        for scheme in ["smooth-w8a8", "smooth-w8a8-token", "smooth-w8a8-tensor"] {
            let naive = Naive { smooth: Some(smoothing(&model, &batch, |_| false)), ..naive(scheme) };
            let expected = nll_of(&model, &batch, Some(&naive), None);
            let operation = format!("quantize={scheme}");
            let found = run(&model, &batch, &request(&[&operation]), PLENTY).expect("sequences");
            agrees(&format!("{family} {scheme}"), &found, &expected, &untouched, 9);
        }
        let naive = Naive {
            smooth: Some(smoothing(&model, &batch, |position| position == 1)),
            kept: |position| position == 1,
            ..self::naive("smooth-w8a8")
        };
        let expected = nll_of(&model, &batch, Some(&naive), None);
        let kept = "quantize=smooth-w8a8@position=1+keep-spikes";
        let found = run(&model, &batch, &request(&[kept]), PLENTY).expect("sequences");
        agrees(&format!("{family} {kept}"), &found, &expected, &untouched, 9);
        // Calibrated with one text, all sequences have the same factors.
        let other = self::batch(1, 7);
        let mut tap = MaximaTap::new((1..=model.architecture().blocks()).collect(), 7, Vec::new(), false);
        Pass::new(&model, PLENTY).run(&other, &mut [&mut tap]).expect("a pass");
        let same = smoothing(&model, &batch, |_| false)
            .into_keys()
            .map(|key| (key, tap.maxima(key.0, key.1, key.2)))
            .collect();
        let naive = Naive { smooth: Some(same), ..self::naive("smooth-w8a8") };
        let expected = nll_of(&model, &batch, Some(&naive), None);
        let calibrated = Request { calibration: Some(other), ..request(&["quantize=smooth-w8a8"]) };
        let found = run(&model, &batch, &calibrated, PLENTY).expect("a calibration text");
        agrees(&format!("{family} calibrated"), &found, &expected, &untouched, 9);
    }
}

/// Widths that blocks of 32 divide.
#[test]
fn blocks_are_their_naive_forms() {
    let model = Model::open("demo").expect("inside the program");
    for (sequences, seq_len) in [(3, 12), (2, 270)] {
        let batch = batch(sequences, seq_len);
        let untouched = nll_of(&model, &batch, None, None);
        for scheme in ["q8_0", "mxfp4", "nvfp4", "w-mxfp4", "a-nvfp4", "hadamard-mxfp4"] {
            if seq_len > 256 && !scheme.contains("nvfp4") {
                continue;
            }
            let exempt = |_, projection| projection == Projection::Down;
            let naive = Naive { kept: |position| position == 2, exempt, ..naive(scheme) };
            let expected = nll_of(&model, &batch, Some(&naive), None);
            let operation = format!("quantize={scheme}+keep=2+except=down_proj");
            let found = run(&model, &batch, &request(&[&operation]), PLENTY).expect(&operation);
            agrees(&operation, &found, &expected, &untouched, seq_len);
            assert!(found.variants[0].linear_layers.iter().all(|layer| layer.error.is_some_and(|error| error > 0.0)));
        }
    }
}

#[test]
fn scales_that_are_fixed_come_from_elsewhere() {
    let model = model("llama");
    for (batch, scheme) in [(batch(3, 9), "w8a8-tensor"), (batch(2, 270), "a8-tensor"), (batch(3, 9), "fp8-e4m3")] {
        let untouched = nll_of(&model, &batch, None, None);
        let largest = |maxima: &Vec<f32>| maxima.iter().copied().fold(0.0, f32::max);
        let of_others = smoothing(&model, &batch, |_| false);
        let fixed = of_others.iter().map(|(key, maxima)| (*key, largest(maxima))).collect();
        let naive = Naive { fixed: Some(fixed), ..naive(scheme) };
        let expected = nll_of(&model, &batch, Some(&naive), None);
        let operation = format!("quantize={scheme}+static");
        let found = run(&model, &batch, &request(&[&operation]), PLENTY).expect("sequences");
        agrees(&operation, &found, &expected, &untouched, batch.seq_len);
        let other = self::batch(1, 7);
        let mut tap = MaximaTap::new((1..=model.architecture().blocks()).collect(), 7, Vec::new(), false);
        Pass::new(&model, PLENTY).run(&other, &mut [&mut tap]).expect("a pass");
        let fixed = of_others.keys().map(|key| (*key, largest(&tap.maxima(key.0, key.1, key.2)))).collect();
        let naive = Naive { fixed: Some(fixed), ..self::naive(scheme) };
        let expected = nll_of(&model, &batch, Some(&naive), None);
        let calibrated = Request { calibration: Some(other), ..request(&[&operation]) };
        let found = run(&model, &batch, &calibrated, PLENTY).expect("a calibration text");
        agrees(&format!("{operation} calibrated"), &found, &expected, &untouched, batch.seq_len);
    }
}

/// Entries of the cache by hand.
struct CacheByHand {
    keys: Option<Points>,
    values: Option<Points>,
    /// Tokens that share a scale in each channel; 0 if the channels of a head do.
    by_channel: usize,
    head_dim: usize,
    kept: Option<usize>,
}

impl CacheByHand {
    fn points(&self, point: Point) -> Option<Points> {
        match point {
            Point::Key => self.keys,
            Point::Value => self.values,
            _ => None,
        }
    }
}

impl Edit for CacheByHand {
    fn wants(&self, point: Point, _block: usize) -> bool {
        self.points(point).is_some()
    }

    fn apply(&self, point: Point, place: &Place, values: &mut [f32]) {
        let Some(points) = self.points(point) else { return };
        let width = values.len() / place.rows;
        let kept = |row: usize| self.kept == Some(place.position + row);
        if self.by_channel > 0 {
            for run in 0..place.rows.div_ceil(self.by_channel) {
                for channel in 0..width {
                    let rows =
                        values.chunks_exact_mut(width).enumerate().skip(run * self.by_channel).take(self.by_channel);
                    let rows = rows.filter(|(row, _)| !kept(*row));
                    points.group(&mut rows.map(|(_, row)| &mut row[channel]).collect::<Vec<_>>());
                }
            }
            return;
        }
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            for head in values.chunks_exact_mut(self.head_dim) {
                if !kept(row) {
                    points.group(&mut head.iter_mut().collect::<Vec<_>>());
                }
            }
        }
    }
}

#[test]
fn caches_are_their_naive_forms() {
    for family in FAMILIES {
        let model = model(family);
        let batch = batch(4, 9);
        let untouched = nll_of(&model, &batch, None, None);
        let int = |largest| Some(Points::Integer(largest));
        for (operation, keys, values, by_channel, kept) in [
            ("cache=int8", int(127.0), int(127.0), 0, None),
            ("cache=int4", int(7.0), int(7.0), 0, None),
            ("cache=int3", int(3.0), int(3.0), 0, None),
            ("cache=int2", int(1.0), int(1.0), 0, None),
            ("cache=fp8-e5m2", Some(Points::E5m2), Some(Points::E5m2), 0, None),
            ("cache=k:int4,v:int8", int(7.0), int(127.0), 0, None),
            ("cache=v:int3", None, int(3.0), 0, None),
            ("cache=int4@position=0+keep-sinks", int(7.0), int(7.0), 0, Some(0)),
            ("cache=int4+keep=2", int(7.0), int(7.0), 0, Some(2)),
            ("cache=k:int4-channel", int(7.0), None, 32, None),
            ("cache=int3-channel+keep=0", int(3.0), int(3.0), 32, Some(0)),
        ] {
            let head_dim = model.architecture().attention(0).head_dim;
            let by_hand = CacheByHand { keys, values, by_channel, head_dim, kept };
            let expected = nll_of(&model, &batch, None, Some(&by_hand));
            let found = run(&model, &batch, &request(&[operation]), PLENTY).expect(operation);
            agrees(&format!("{family} {operation}"), &found, &expected, &untouched, 9);
            assert_eq!(found.variants[0].kept_tokens, kept.map(|_| 4));
        }
    }
    // Runs of 32 tokens, the last one shorter.
    let (model, batch) = (model("llama"), batch(2, 300));
    let by_hand =
        CacheByHand { keys: Some(Points::Integer(3.0)), values: None, by_channel: 32, head_dim: 4, kept: None };
    let expected = nll_of(&model, &batch, None, Some(&by_hand));
    let found = run(&model, &batch, &request(&["cache=k:int3-channel"]), PLENTY).expect("a comparison");
    agrees("long", &found, &expected, &nll_of(&model, &batch, None, None), 300);
}

/// Layers computed elsewhere, but as they are, change no bit.
#[test]
fn layers_that_are_not_quantised_are_untouched() {
    for family in FAMILIES {
        let model = model(family);
        for (sequences, seq_len) in [(4, 9), (2, 300)] {
            if family == "gpt2" && seq_len > 32 {
                continue;
            }
            let batch = batch(sequences, seq_len);
            let scheme = Scheme::default();
            let layers =
                QuantisedLayers::new(scheme, all_layers(&model), seq_len, vec![false; batch.tokens.len()], false);
            let before = nll_of(&model, &batch, None, None);
            assert_eq!(nll_of(&model, &batch, Some(&layers), None), before, "{family}");
            for layer in layers.layers() {
                assert!(layer.error.is_none_or(|error| error < 1e-6), "{family} {layer:?}");
                assert!(layer.largest_elsewhere > 0.0 && layer.largest_at_spikes.is_none() && !layer.breaks);
            }
        }
    }
}

#[test]
fn company_memory_and_threads_change_nothing() {
    let operations = [
        "quantize=w8a8-tensor@position=0+keep-spikes",
        "quantize=smooth-w8a8",
        "quantize=w4-g8@block=4",
        "quantize=a8-token@block=3",
        "cache=int4@block=3",
    ];
    for (family, sequences, seq_len) in [("gemma2", 40, 9), ("gpt-neox", 3, 300)] {
        let model = model(family);
        let batch = batch(sequences, seq_len);
        let together = |threads, memory| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut found = pool.install(|| run(&model, &batch, &request(&operations), memory).expect("a comparison"));
            found.variants.iter_mut().for_each(|variant| variant.computed_after = 0);
            found
        };
        let one = together(1, PLENTY);
        assert_eq!(together(2, PLENTY), one);
        assert_eq!(together(3, 1), one);
        assert_eq!(one.variants[2].linear_layers.iter().map(|layer| layer.block).max(), Some(4));
        assert!(one.variants[4].linear_layers.is_empty());
    }
}

/// What each layer lost, from every sampled token by itself.
#[test]
fn errors_are_those_of_the_outputs() {
    let model = model("llama");
    let batch = batch(4, 9);
    let found = run(&model, &batch, &request(&["quantize=w3-g8@block=1"]), PLENTY).expect("a comparison");
    let layers = &found.variants[0].linear_layers;
    assert_eq!(
        layers.iter().map(|layer| layer.projection.as_str()).collect::<Vec<_>>(),
        ["query", "key", "value", "attention-output"]
    );
    // Block 1 reads what it reads in the untouched model.
    let watch = Naive { weights: None, ..naive("w8") };
    nll_of(&model, &batch, Some(&watch), None);
    let measured = watch.measured.into_inner().expect("whole");
    let block = model.attention_block::<f32>(0).expect("a block");
    let mut weights = block.key.weight().to_vec();
    for rows in weights.chunks_mut(8 * block.key.outputs()) {
        for output in 0..block.key.outputs() {
            Points::Integer(3.0)
                .group(&mut rows.iter_mut().skip(output).step_by(block.key.outputs()).collect::<Vec<_>>());
        }
    }
    let quantised = Linear::new(&weights, block.key.bias.clone(), block.key.inputs(), block.key.outputs());
    let (mut difference, mut whole, mut largest) = (0.0, 0.0, 0.0_f32);
    for sequence in 0..4 {
        for row in measured[&(1, Point::NormalisedInput, sequence)].values() {
            largest = row.iter().fold(largest, |largest, value| largest.max(value.abs()));
            let product = |linear: &Linear<f32>| {
                let mut out = vec![0.0; linear.outputs()];
                linear.forward(&mut out, row);
                out
            };
            for (ours, plain) in product(&quantised).iter().zip(product(&block.key)) {
                difference += f64::from(ours - plain).powi(2);
                whole += f64::from(plain).powi(2);
            }
        }
    }
    let expected = (difference / whole).sqrt();
    let error = layers[1].error.expect("a sample");
    assert!(expected > 0.01 && (error / expected - 1.0).abs() < 1e-4, "{error} {expected}");
    assert_eq!(layers[1].largest_elsewhere, largest);
    assert_eq!((layers[1].largest_at_spikes, layers[1].error_at_spikes), (None, None));
}

/// Earlier layers are quantised too, and have no part in what a later one loses.
#[test]
fn damage_is_that_of_the_untouched_models_inputs() {
    for scheme in ["w3-g8", "w8a8-tensor", "w8a8-token", "fp8-e4m3"] {
        let model = model("llama");
        let batch = batch(4, 9);
        let alone = format!("quantize={scheme}+only=model.layers.1.mlp.down_proj");
        let operations = [format!("quantize={scheme}"), alone];
        let typed: Vec<&str> = operations.iter().map(String::as_str).collect();
        let found = run(&model, &batch, &request(&typed), PLENTY).expect("a comparison");
        let last = found.variants[0].linear_layers.last().expect("layers");
        assert_eq!(std::slice::from_ref(last), &found.variants[1].linear_layers[..]);
        assert!(last.error.is_some_and(|error| error > 0.001) && last.weights == 24 * 16, "{last:?}");
    }
}

/// With both rows of logits at hand.
#[test]
fn divergence_is_that_of_whole_rows() {
    for (family, operation) in [("llama", "cache=int4"), ("gemma2", "quantize=w3-g8"), ("llama", "drop-first")] {
        let model = model(family);
        let batch = batch(4, 9);
        let kept = run(&model, &batch, &request(&[operation]), PLENTY).expect("a comparison");
        // Too little memory for logits: they are formed again.
        let again = run(&model, &batch, &request(&[operation]), 1).expect("a comparison");
        assert_eq!(
            (kept.variants[0].kl, kept.variants[0].top1_agreement),
            (again.variants[0].kl, again.variants[0].top1_agreement)
        );
        assert_eq!(kept.variants[0].kl_ci95, again.variants[0].kl_ci95);
        let logits = |batch: &TokenBatch, edit: Option<&dyn Edit>, linears: Option<&dyn LinearEdit>| -> Vec<Vec<f64>> {
            let mut tap = LogitsTap::default();
            let mut pass = Pass::new(&model, PLENTY);
            if let Some(edit) = edit {
                pass = pass.with_edit(edit);
            }
            if let Some(linears) = linears {
                pass = pass.with_linears(linears);
            }
            pass.run(batch, &mut [&mut tap]).expect("a pass");
            tap.0.into_values().collect()
        };
        let original = logits(&batch, None, None);
        let points = Some(Points::Integer(7.0));
        let cache = CacheByHand {
            keys: points,
            values: points,
            by_channel: 0,
            head_dim: model.architecture().attention(0).head_dim,
            kept: None,
        };
        let (changed, seq_len) = match operation {
            "cache=int4" => (logits(&batch, Some(&cache), None), 9),
            "drop-first" => {
                let tokens = batch.tokens.chunks(9).flat_map(|sequence| &sequence[1..]).copied().collect();
                (logits(&TokenBatch { tokens, sequences: 4, seq_len: 8 }, None, None), 8)
            }
            _ => (logits(&batch, None, Some(&naive("w3-g8"))), 9),
        };
        let (mut sum, mut same, mut count) = (0.0, 0, 0);
        for sequence in 0..4 {
            for position in 9 - seq_len..8 {
                let p = &original[sequence * 9 + position];
                let q = &changed[sequence * seq_len + position - (9 - seq_len)];
                let total = |row: &[f64]| row.iter().map(|logit| logit.exp()).sum::<f64>();
                let (of_p, of_q) = (total(p), total(q));
                sum += p.iter().zip(q).map(|(p, q)| p.exp() / of_p * (p - of_p.ln() - q + of_q.ln())).sum::<f64>();
                let top = |row: &[f64]| (0..row.len()).rev().max_by(|&i, &j| row[i].total_cmp(&row[j]));
                same += usize::from(top(p) == top(q));
                count += 1;
            }
        }
        let found = &kept.variants[0];
        let (kl, agreement) = (found.kl.expect("targets"), found.top1_agreement.expect("targets"));
        assert_eq!(found.tokens, count);
        assert!(
            kl > 1e-5 && (kl - sum / count as f64).abs() < 1e-6 + 0.02 * kl,
            "{family} {operation}: {kl} {}",
            sum / count as f64
        );
        assert!((agreement - same as f64 / count as f64).abs() < 0.04, "{agreement}");
        let [low, high] = found.kl_ci95.expect("sequences");
        assert!(low <= kl && kl <= high);
    }
    let same = run(&model("llama"), &batch(4, 9), &request(&["window=9"]), PLENTY).expect("a comparison");
    assert_eq!((same.variants[0].kl, same.variants[0].top1_agreement), (Some(0.0), Some(1.0)));
    let none = run(&model("llama"), &batch(4, 9), &request(&["random-tokens"]), PLENTY).expect("a comparison");
    assert_eq!((none.variants[0].kl, none.variants[0].top1_agreement), (None, None));
}

/// All logits, by sequence and position.
#[derive(Default)]
struct LogitsTap(BTreeMap<(usize, usize), Vec<f64>>);

impl Tap for LogitsTap {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, _block: usize) -> bool {
        point == Point::Logits
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        let EventData::Logits { values, .. } = event.data else { return Vec::new() };
        values.to_vec()
    }

    fn merge(&mut self, _point: Point, place: &Place, partial: Vec<f32>) {
        for (row, values) in partial.chunks_exact(partial.len() / place.rows).enumerate() {
            let row = self.0.entry((place.sequence, place.position + row)).or_default();
            row.extend(values.iter().map(|&value| f64::from(value)));
        }
    }
}

/// A trial is the operation that its name says.
#[test]
fn advice_is_tried_before_it_is_given() {
    let model = model("llama");
    let batch = batch(4, 9);
    let found = run(&model, &batch, &request(&["quantize=w3-g8"]), PLENTY).expect("a comparison");
    let Some(line) = found.advice.iter().find(|line| line.about == "exempt") else {
        let lost = found.variants[0].delta_ci95.expect("sequences");
        assert!(lost[0] <= 0.0 && found.trials.is_empty(), "a loss and nothing tried: {:?}", found.advice);
        return;
    };
    assert_eq!((line.trials, line.operation.as_str()), (1, found.trials[0].name.as_str()));
    let asked = run(&model, &batch, &request(&["quantize=w3-g8", &line.operation]), PLENTY).expect("a comparison");
    let same = |variant: &Variant| Variant { computed_after: 0, ..variant.clone() };
    assert_eq!(same(&asked.variants[1]), same(&found.trials[0]));
    let again = asked.advice.iter().find(|line| line.about == "exempt").expect("the same");
    assert_eq!((again.trials, again.figure), (0, line.figure), "what was asked for is not run twice");
    let untried = Request { trials: false, ..request(&["quantize=w3-g8"]) };
    assert!(run(&model, &batch, &untried, PLENTY).expect("a comparison").trials.is_empty());
}

#[test]
fn what_is_not_finite_has_no_scale_and_stays_not_finite() {
    let scheme = Scheme::parse("a8-token").expect("a scheme");
    let layers = QuantisedLayers::new(
        scheme,
        Chosen::from([((2, Projection::Down), "down".to_owned())]),
        3,
        vec![false; 6],
        false,
    );
    let linear = Linear::new(&[1.0; 4], None, 2, 2);
    let places = [Place { block: 2, sequence: 1, position: 0, rows: 3 }];
    let block = layers.begin(2, &[(Projection::Down, &linear)]);
    let mut out = [0.0; 6];
    let x = [0.0, 1.0, 2.0, f32::INFINITY, 1.0, 1.0];
    block.multiply(Point::Hidden, &places, &x, &mut [Product::new(Projection::Down, &linear, &mut out)]);
    assert_eq!(out.map(f32::is_finite), [true, true, false, false, true, true]);

    let keys = CacheFormat::parse("k:int8").expect("a format").0;
    let (kv_heads, blocks) = (vec![1], vec![1]);
    let cache = CacheEdit { keys, values: None, kv_heads, blocks, seq_len: 3, kept: vec![false; 3] };
    let place = Place { block: 1, sequence: 0, position: 0, rows: 3 };
    let mut rows = [0.0, 0.0, 1.0, 2.0, 3.0, f32::NAN];
    cache.apply(Point::Key, &place, &mut rows);
    assert_eq!(rows[..5], [0.0, 0.0, 64.0 * (2.0 / 127.0), 2.0, 3.0]);
    assert!(rows[5].is_nan());
}

#[test]
fn what_cannot_be_done_is_said_and_why() {
    for (operation, sequences, part) in [
        ("quantize=w4-g3", 4, "groups of 3 do not divide the 16 inputs of the first layers of a block"),
        ("quantize=w8+keep-spikes", 4, "no spikes were found whose tokens could be taken; name @position"),
        ("quantize=w8@position=9+keep-spikes", 4, "position 9 does not exist"),
        ("quantize=w8@block=0", 4, "block 0 does not exist: there are 1 to 4"),
        ("quantize=smooth-w8a8", 1, "needs at least two"),
        ("quantize=w8a8-tensor+static", 1, "scales fixed by other sequences needs at least two"),
        ("quantize=mxfp4", 4, "groups of 32 do not divide the 16 inputs"),
        ("quantize=w8+except=fc_in", 4, "\"fc_in\" names no tensor of a layer; give a projection"),
        ("quantize=w8+only=model.layers.2", 4, "such as model.layers.1.mlp.down_proj"),
        ("quantize=w8+except=layer=0-2", 4, "layer 2 does not exist: there are 0 to 1"),
        ("quantize=w8+only=q_proj+except=self_attn", 4, "no linear layer is left"),
        ("quantize=w4-g32+only=down_proj", 4, "groups of 32 do not divide the 24 inputs of the down projection"),
        ("cache=int8@block=model.layers.0.mlp", 4, "block 2 is no attention block"),
        ("cache=int8@layer=2", 4, "layer 2 does not exist"),
        ("cache=int4+keep=0-9", 4, "position 9 does not exist"),
        ("cache=int4+keep=0..10", 4, "position 9 does not exist"),
        ("cache=int8@block=2", 4, "block 2 is no attention block"),
        ("cache=int8+keep-spikes", 4, "no spikes were found"),
    ] {
        let error = run(&model("llama"), &batch(sequences, 9), &request(&[operation]), PLENTY).expect_err(operation);
        let message = error.to_string();
        assert!(message.starts_with(&format!("{operation}: ")) && message.contains(part), "{message}");
    }
}

#[test]
fn advice_says_what_was_measured() {
    let model = model("llama");
    let kept =
        ["quantize=w3-g8", "quantize=w3-g8@position=0+keep-spikes", "cache=int2", "cache=int2@position=0+keep-sinks"];
    let found = run(&model, &batch(4, 9), &request(&kept), PLENTY).expect("a comparison");
    let about: Vec<(&str, &str)> =
        found.advice.iter().map(|line| (line.about.as_str(), line.operation.as_str())).collect();
    let expected = [
        ("loss", kept[0]),
        ("layers", kept[0]),
        ("tokens", kept[1]),
        ("loss", kept[1]),
        ("layers", kept[1]),
        ("loss", kept[2]),
        ("tokens", kept[3]),
        ("loss", kept[3]),
    ];
    assert_eq!(about, expected);
    assert_eq!(Some(found.advice[0].figure), found.variants[0].delta_nll);
    assert_eq!(Some(found.advice[6].figure), found.variants[3].delta_nll);
    assert!(
        found.advice[6].text.starts_with("pin 4 tokens, 1.000 a sequence, in the cache: "),
        "{}",
        found.advice[6].text
    );
    let nothing = run(&model, &batch(4, 9), &request(&["drop-first"]), PLENTY).expect("a comparison");
    assert!(nothing.advice.is_empty());
}

#[test]
fn blocks_that_are_absent_have_no_layers_to_quantise() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/tests/fixtures/variants/feed-forward-attention");
    let model = Model::open(folder).expect("a fixture");
    let vocabulary = model.architecture().vocabulary as u32;
    for (seq_len, sequences) in [(model.architecture().max_positions, 2), (300, 2)] {
        let tokens = (0..(sequences * seq_len) as u32).map(|at| (at * at + at / 3) % vocabulary).collect();
        let batch = TokenBatch { tokens, sequences, seq_len };
        let found = run(&model, &batch, &request(&["quantize=w8a8-tensor", "quantize=smooth-w8a8"]), PLENTY);
        let found = found.expect("a comparison");
        assert!(found.variants.iter().all(|variant| variant.delta_nll.is_some_and(f64::is_finite)), "{seq_len}");
    }
}
