//! A mechanism that changes nothing proves nothing: each is switched off in turn, and parity must fail.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::{Expected, family, fixtures, logit_difference, record};
use crate::architecture::{
    Activation, Architecture, FeedForward, Layer, NormPlacement, Position, QkNorm, ResidualLayout, Rope, RopeScaling,
};
use crate::families::{Naming, identify};
use crate::model::Model;
use crate::weights::Weights;
use sinkscope_sources::checkpoint::Checkpoint;

/// Far beyond the tolerance of parity, 1e-4.
const FAILS: f64 = 1e-2;

/// How far the logits are off without a mechanism, as a share of their range.
fn without(folder: &Path, expected: &Expected, switch_off: impl Fn(&mut Architecture, &mut Naming)) -> f64 {
    let checkpoint = Checkpoint::open_path(folder).expect("a fixture");
    let mut identity = identify(&checkpoint, &[]).expect("a family");
    switch_off(&mut identity.architecture, &mut identity.naming);
    identity.architecture.validate().expect("still a model");
    let (architecture, weights) = (identity.architecture, Weights::new(checkpoint, identity.naming));
    let model = Model { architecture, weights, has_head: true, passed: Vec::new() };
    model.check().expect("still complete");
    logit_difference(&record(&model, &expected.batch("tokens")).logits, &expected.values("logits"))
}

fn fails(name: &str, switch_off: impl Fn(&mut Architecture, &mut Naming)) {
    let expected = family(name).1;
    let difference = without(&fixtures().join("families").join(name), &expected, switch_off);
    println!("{name}: {difference:.1e}");
    assert!(difference > FAILS, "{name} does not need it: logits are off by only {difference:e}");
}

fn no_windows(a: &mut Architecture, _: &mut Naming) {
    each(a, |layer| layer.mixer.attention_mut().window = None);
}

fn no_rope_scaling(a: &mut Architecture, _: &mut Naming) {
    each_rope(a, |rope| rope.scaling = RopeScaling::None);
}

fn each(a: &mut Architecture, change: impl Fn(&mut Layer)) {
    a.kinds.iter_mut().for_each(change);
}

fn each_rope(a: &mut Architecture, change: impl Fn(&mut Rope)) {
    each(a, |layer| match &mut layer.mixer.attention_mut().position {
        Position::Rotary(rope) => change(rope),
        other => panic!("{other:?} is not rotary"),
    });
}

/// Gives a layer the window of another.
fn window_of(a: &mut Architecture, layer: usize, other: usize) {
    let mut changed = a.layer(layer).clone();
    changed.mixer.attention_mut().window = a.attention(other).window;
    a.order[layer] = a.kinds.len();
    a.kinds.push(changed);
}

#[test]
fn nothing_switched_off_agrees() {
    let expected = family("gemma2").1;
    let difference = without(&fixtures().join("families/gemma2"), &expected, |_, _| {});
    assert!(difference <= 1e-4, "{difference:e}");
}

#[test]
fn attention_cap() {
    fails("gemma2", |a, _| each(a, |layer| assert!(layer.mixer.attention_mut().soft_cap.take().is_some())));
}

#[test]
fn logit_cap() {
    fails("gemma2", |a, _| assert!(a.logit_soft_cap.take().is_some()));
}

#[test]
fn windows() {
    for name in ["mistral", "qwen2-window", "gemma2", "gemma3", "smollm3", "phi3"] {
        fails(name, no_windows);
    }
}

#[test]
fn windows_of_some_layers_only() {
    fails("gemma2", |a, _| window_of(a, 1, 0));
    fails("gemma3", |a, _| window_of(a, 1, 0));
    fails("qwen2-window", |a, _| window_of(a, 0, 1));
}

#[test]
fn qk_norm() {
    for name in ["qwen3", "gemma3", "olmo2"] {
        fails(name, |a, _| each(a, |layer| layer.mixer.attention_mut().qk_norm = QkNorm::None));
    }
}

#[test]
fn rope_scaling() {
    for name in ["llama3", "gemma3", "phi3-longrope"] {
        fails(name, no_rope_scaling);
    }
}

#[test]
fn longrope_magnitude() {
    fails("phi3-longrope", |a, _| {
        each_rope(a, |rope| {
            let RopeScaling::LongRope { magnitude, .. } = &mut rope.scaling else { panic!("longrope") };
            *magnitude = 1.0;
        });
    });
}

#[test]
fn rope_of_windowed_layers() {
    fails("gemma3", |a, _| {
        let full = a.layers().find(|layer| layer.mixer.attention().window.is_none()).expect("one").clone();
        each(a, |layer| layer.mixer.attention_mut().position = full.mixer.attention().position.clone());
    });
}

#[test]
fn layers_that_do_not_rotate() {
    fails("smollm3", |a, _| {
        let rotating = a.attention(0).position.clone();
        each(a, |layer| layer.mixer.attention_mut().position = rotating.clone());
    });
}

#[test]
fn partial_rotation() {
    fails("gpt-neox", |a, _| {
        let head_dim = a.attention(0).head_dim;
        each_rope(a, |rope| rope.rotary_dim = head_dim);
    });
}

#[test]
fn gamma_plus_one() {
    for name in ["gemma2", "gemma3"] {
        fails(name, |_, naming| naming.gamma_offset = 0.0);
    }
}

#[test]
fn output_norm() {
    for name in ["gemma2", "gemma3"] {
        fails(name, |a, _| each(a, |layer| layer.norm_placement = NormPlacement::Pre));
    }
}

#[test]
fn input_norm() {
    for name in ["gemma2", "gemma3"] {
        fails(name, |a, _| each(a, |layer| layer.norm_placement = NormPlacement::Output));
    }
}

#[test]
fn embedding_scale() {
    for name in ["gemma2", "gemma3"] {
        fails(name, |a, _| a.embedding_scale = 1.0);
    }
}

#[test]
fn attention_scale() {
    for name in ["gemma2", "gemma3"] {
        fails(name, |a, _| {
            each(a, |layer| {
                let attention = layer.mixer.attention_mut();
                attention.scale = (attention.head_dim as f64).powf(-0.5);
            });
        });
    }
}

#[test]
fn parallel_blocks() {
    fails("gpt-neox", |a, _| each(a, |layer| layer.residual = ResidualLayout::Sequential));
}

#[test]
fn the_kind_of_gelu() {
    fails("gpt2", |a, _| {
        each(a, |layer| {
            let FeedForward::Dense(dense) = &mut layer.feed_forward else { panic!("dense") };
            dense.activation = Activation::Silu;
        });
    });
}

#[test]
fn biases() {
    for name in ["qwen2", "gpt2", "gpt-neox"] {
        let folder = tempfile::tempdir().expect("a folder");
        let source = fixtures().join("families").join(name);
        std::fs::copy(source.join("config.json"), folder.path().join("config.json")).expect("a copy");
        let bytes = std::fs::read(source.join("model.safetensors")).expect("a fixture");
        let stored = SafeTensors::deserialize(&bytes).expect("safetensors");
        let zeros = vec![0_u8; bytes.len()];
        let mut zeroed = 0;
        let tensors: Vec<(String, TensorView<'_>)> = stored
            .tensors()
            .into_iter()
            .map(|(name, tensor)| {
                // Of the linear layers; those of norms stay.
                let of_linear =
                    name.rsplit('.').next() == Some("bias") && !name.contains("norm") && !name.contains("ln_");
                zeroed += usize::from(of_linear);
                let data = if of_linear { &zeros[..tensor.data().len()] } else { tensor.data() };
                let view = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), data);
                (name, view.expect("as stored").clone())
            })
            .collect();
        assert!(zeroed > 0, "{name}");
        let file = safetensors::serialize(tensors, None).expect("safetensors");
        std::fs::write(folder.path().join("model.safetensors"), file).expect("a file");
        let difference = without(folder.path(), &family(name).1, |_, _| {});
        assert!(difference > FAILS, "{name} does not need its biases: logits are off by only {difference:e}");
    }
}
