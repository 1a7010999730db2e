//! The whole examination.

use sinkscope_anatomy::examination::{AnatomyRequest, CensusScope, Surroundings, examine};
use sinkscope_anatomy::pictures::{FEWER_VECTORS, Pictures};
use sinkscope_anatomy::results::Anatomy;
use sinkscope_model::Model;
use sinkscope_sources::data::TokenBatch;

use crate::recorded::{batch, model};

fn everything() -> AnatomyRequest {
    AnatomyRequest {
        census: Some(CensusScope::All),
        probe: true,
        pictures: Pictures::None,
        ..AnatomyRequest::default()
    }
}

fn run(model: &Model, batch: &TokenBatch, request: &AnatomyRequest, memory: u64) -> Anatomy {
    let text = |id: u32| if id < 4 { ".".to_owned() } else { format!("<{id}>") };
    let mut anatomy = examine(model, batch, request, Surroundings { memory, text: &text, progress: &|_| {} })
        .expect("an examination")
        .anatomy;
    if let Some(census) = &mut anatomy.census {
        census.timing = sinkscope_anatomy::census::CensusTiming::default();
    }
    anatomy
}

const FAMILIES: [&str; 9] =
    ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2", "gpt2", "gpt-neox-sequential"];

#[test]
fn random_weights_have_none_of_it() {
    for family in FAMILIES {
        let anatomy = run(&model(family), &batch(8, 16), &everything(), 1 << 30);
        let spikes = anatomy.spikes.expect("asked for");
        assert!(spikes.stages.is_empty() && spikes.channels.is_empty(), "{family}");
        let regularities = anatomy.regularities.expect("with the spikes");
        assert_eq!(regularities.len(), 5);
        assert!(regularities.iter().filter(|verdict| !verdict.holds).count() >= 4, "{family}");
        assert_eq!(anatomy.sample.expect("a sample").spike_tokens, 0);
        assert!(anatomy.silu.expect("asked for").blocks.is_empty(), "{family}");
        assert!(anatomy.normalisation.expect("asked for").blocks.iter().all(|block| block.spike.is_none()));
        let geometry = anatomy.geometry.expect("asked for");
        assert!(geometry.heads.iter().all(|head| head.sink_is_spike == 0.0 && head.key_rank95_spike.is_none()));
        assert!(anatomy.self_sinking.expect("with the geometry").spike.is_none());
        let census = anatomy.census.expect("asked for");
        assert!(census.prediction.expect("of all blocks").peak.is_none() && census.steering.is_none(), "{family}");
        assert!(anatomy.prediction_score.is_none());
        let probe = anatomy.probe.expect("asked for");
        assert!(probe.block.is_none() && probe.share.is_none() && probe.items.is_empty());
    }
}

/// A threshold so low that there are stages, of which everything else is then said.
#[test]
fn the_parts_agree_about_stages() {
    let mut with_stages = 0;
    for family in FAMILIES {
        let model = model(family);
        let anatomy = run(&model, &batch(8, 16), &AnatomyRequest { spike_ratio: 1.5, ..everything() }, 1 << 30);
        let spikes = anatomy.spikes.expect("asked for");
        let steps = |stage: &sinkscope_anatomy::results::Stage| -> Vec<usize> {
            stage.step_up.iter().chain(&stage.step_down).copied().filter(|block| block.is_multiple_of(2)).collect()
        };
        let amplifiers: Vec<(usize, usize, usize)> = anatomy
            .silu
            .expect("asked for")
            .blocks
            .iter()
            .map(|amplifier| (amplifier.stage, amplifier.block, amplifier.channel))
            .collect();
        let expected: Vec<(usize, usize, usize)> = spikes
            .stages
            .iter()
            .enumerate()
            .flat_map(|(index, stage)| steps(stage).into_iter().map(move |block| (index + 1, block, stage.channel)))
            .collect();
        assert_eq!(amplifiers, expected, "{family}");
        let Some(stage) = spikes.stages.first() else { continue };
        with_stages += 1;
        // A batch this small is its own sample.
        assert_eq!(anatomy.sample.expect("a sample").spike_tokens, stage.tokens.len());
        let probe = anatomy.probe.expect("asked for");
        let block = stage.step_up.last().copied().unwrap_or(stage.peak_block);
        assert_eq!((probe.block, probe.items.len()), (Some(block), model.architecture().vocabulary), "{family}");
        let typical = anatomy.lifecycle.expect("asked for").blocks[block].residual.typical_token_largest;
        assert_eq!((probe.typical_token_largest, probe.threshold), (Some(typical), Some(1.5 * typical)));
        let few = anatomy.regularities.expect("with the spikes")[4].value.expect("a stage");
        assert!((few - stage.tokens.len() as f64 / 128.0).abs() < 1e-12);
        let away: usize = stage.elsewhere.iter().map(|item| item.spiking).sum();
        assert_eq!(away, stage.tokens.iter().filter(|token| token.position > 0).count());
    }
    assert!(with_stages >= 4, "{with_stages} models are no test");
}

#[test]
fn threads_and_memory_change_no_bit() {
    for (family, ratio) in [("gemma2", 1.5), ("mistral", 5.0), ("gpt2", 1.5)] {
        let model = model(family);
        let request = AnatomyRequest { spike_ratio: ratio, pictures: Pictures::Extremes, ..everything() };
        // Long enough for several chunks, but for learned positions.
        let batch = if family == "gpt2" { batch(40, 32) } else { batch(3, 600) };
        let with = |threads, memory| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| run(&model, &batch, &request, memory))
        };
        let one = with(1, 1 << 30);
        assert!(one.tokens.is_some() && one.pictures.len() == 2, "{family}");
        assert_eq!(with(2, 1 << 30), one, "{family}");
        assert_eq!(with(3, 1 << 16), one, "{family}");
    }
}

#[test]
fn heads_that_do_not_exist_are_refused() {
    let request = AnatomyRequest { pictures: Pictures::Of(vec![(0, 4)]), ..everything() };
    let around = Surroundings { memory: 1 << 30, text: &|_| String::new(), progress: &|_| {} };
    let error = examine(&model("llama"), &batch(2, 8), &request, around).expect_err("refused").to_string();
    assert!(error.contains("head 0.4 does not exist: there are 2 layers of 4 heads"), "{error}");
}

#[test]
fn pictures_have_queries_and_keys_of_the_sample() {
    let request = AnatomyRequest { pictures: Pictures::Of(vec![(1, 2)]), ..everything() };
    let anatomy = run(&model("llama"), &batch(8, 16), &request, 1 << 30);
    let [picture] = &anatomy.pictures[..] else { panic!("one head was asked for") };
    assert_eq!((picture.layer, picture.head), (1, 2));
    let keys = picture.points.iter().filter(|point| point.key).count();
    assert!(keys > 0 && keys * 2 == picture.points.len());
    assert!(picture.points.iter().all(|point| point.at.iter().all(|value| value.is_finite())));
    // Drawn the same way again.
    assert_eq!(run(&model("llama"), &batch(8, 16), &request, 1 << 30).pictures, anatomy.pictures);
}

#[test]
fn without_names_the_strongest_sink_head_is_drawn_and_the_weakest_beside_it() {
    let request = AnatomyRequest { geometry: true, sinks: true, ..AnatomyRequest::nothing() };
    let request = AnatomyRequest { pictures: Pictures::Extremes, ..request };
    let anatomy = run(&model("qwen3"), &batch(16, 16), &request, 1 << 30);
    let heads = &anatomy.sinks.as_ref().expect("asked for").heads;
    let [most, least] = &anatomy.pictures[..] else { panic!("two pictures") };
    let all = || heads.iter().flatten().copied();
    assert_eq!(heads[most.layer][most.head], all().fold(0.0, f64::max));
    assert_eq!((least.layer, heads[least.layer][least.head]), {
        (most.layer, heads[most.layer].iter().copied().fold(1.0, f64::min))
    });
    assert_eq!((most.points.len(), least.points.len()), (FEWER_VECTORS, FEWER_VECTORS));

    let json = serde_json::to_value(&anatomy).expect("JSON");
    let pictures = json["tsne"].as_array().expect("a list");
    assert_eq!(
        (pictures.len(), &pictures[0]["layer"], &pictures[0]["head"]),
        (2, &most.layer.into(), &most.head.into())
    );
    let point = pictures[0]["points"][0].as_object().expect("an object");
    assert!(point.keys().eq(["key", "sequence", "position", "spike", "at"]), "{point:?}");
    assert_eq!((&point["key"], point["at"].as_array().map(Vec::len)), (&false.into(), Some(2)));
}
