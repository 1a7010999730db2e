//! The parts of an examination that `--only` names.

/// One part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The trajectory of the largest channels over depth.
    Lifecycle,
    /// Spike tokens and stages.
    Spikes,
    /// Attention sinks.
    Sinks,
    /// Negative log-likelihood and perplexity.
    Nll,
}

impl Part {
    /// All parts, in the order of the results.
    pub const ALL: [Self; 4] = [Self::Lifecycle, Self::Spikes, Self::Sinks, Self::Nll];

    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Spikes => "spikes",
            Self::Sinks => "sinks",
            Self::Nll => "nll",
        }
    }
}

/// The parts that are planned and have names already.
const LATER: [&str; 5] = ["silu", "normalisation", "geometry", "census", "probe"];

/// Reads the names given to `--only`; none means all. Each part comes once, in the order of the results.
pub fn parse(names: &[String]) -> Result<Vec<Part>, String> {
    if names.is_empty() {
        return Ok(Part::ALL.to_vec());
    }
    let mut parts = Vec::new();
    for name in names {
        let name = name.trim();
        let Some(part) = Part::ALL.into_iter().find(|part| part.name() == name) else {
            let available = Part::ALL.map(Part::name).join(", ");
            return Err(if LATER.contains(&name) {
                format!("{name:?} is not available in this version; available are {available}")
            } else {
                format!("{name:?} is not a part of the examination; available are {available}")
            });
        };
        parts.push(part);
    }
    parts.sort_unstable();
    parts.dedup();
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::{LATER, Part, parse};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn none_means_all() {
        assert_eq!(parse(&[]), Ok(Part::ALL.to_vec()));
    }

    #[test]
    fn parts_come_once_and_in_order() {
        assert_eq!(parse(&names(&["nll", " lifecycle", "nll"])), Ok(vec![Part::Lifecycle, Part::Nll]));
    }

    #[test]
    fn the_rest_is_refused_with_what_there_is() {
        for name in LATER.into_iter().chain(["", "Sinks", "everything"]) {
            let message = parse(&names(&["sinks", name])).expect_err(name);
            assert!(message.ends_with("available are lifecycle, spikes, sinks, nll"), "{message}");
        }
    }
}
