//! The parts of an examination that `--only` names.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// One part, in the order of the results. Its name is what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// The trajectory of the largest channels over depth.
    Lifecycle,
    /// Spike tokens and stages.
    Spikes,
    /// Attention sinks.
    Sinks,
    /// Negative log-likelihood and perplexity.
    Nll,
    /// The text itself, token by token.
    Tokens,
    /// The amplifier at work.
    Silu,
    /// What normalisation makes of spikes.
    Normalisation,
    /// The geometry of heads.
    Geometry,
    /// What the weights of the feed-forward blocks could do.
    Census,
    /// The vocabulary at position 0.
    Probe,
}

/// Reads the names given to `--only`; none means all but the probe. Each part comes once, in the order of the results.
pub fn parse(names: &[String]) -> Result<Vec<Part>, String> {
    let all = Part::value_variants();
    if names.is_empty() {
        return Ok(all.iter().copied().filter(|part| *part != Part::Probe).collect());
    }
    let mut parts = Vec::new();
    for name in names {
        let name = name.trim();
        let part = Part::from_str(name, false).map_err(|_| {
            let available: Vec<_> = all.iter().filter_map(ValueEnum::to_possible_value).collect();
            let available: Vec<_> = available.iter().map(PossibleValue::get_name).collect();
            format!("{name:?} is not a part of the examination; there are {}", available.join(", "))
        })?;
        parts.push(part);
    }
    parts.sort_unstable();
    parts.dedup();
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::{Part, parse};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn none_means_all_but_the_probe() {
        assert_eq!(parse(&[]), Ok(Part::value_variants()[..9].to_vec()));
    }

    #[test]
    fn parts_come_once_and_in_order() {
        assert_eq!(parse(&names(&["probe", " lifecycle", "probe"])), Ok(vec![Part::Lifecycle, Part::Probe]));
    }

    #[test]
    fn the_rest_is_refused_with_what_there_is() {
        for name in ["", "Sinks", "everything"] {
            let message = parse(&names(&["sinks", name])).expect_err(name);
            let all = "lifecycle, spikes, sinks, nll, tokens, silu, normalisation, geometry, census, probe";
            assert!(message.ends_with(&format!("there are {all}")), "{message}");
        }
    }
}
