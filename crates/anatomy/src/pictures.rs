//! Pictures of heads (Fig. 6): which heads are drawn, and with which of the sample's tokens.

use crate::results::{Picture, PicturePoint, Sinks};
use crate::sample::geometry::HeadVectors;
use crate::sample::{Kinds, Sample, chosen};
use crate::tsne;

/// Most vectors of a picture that was not asked for by name: two such pictures take less than a second.
pub const FEWER_VECTORS: usize = 320;

/// Of which heads pictures are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pictures {
    /// Of none.
    None,
    /// Of the head with the largest mean max alpha, and of the one with the least in the same layer (in all layers, where a
    /// layer has one head); of equals the first.
    #[default]
    Extremes,
    /// Of these layers and heads.
    Of(Vec<(usize, usize)>),
}

impl Pictures {
    /// The layers and heads, of a model with these sinks.
    pub fn heads(&self, sinks: Option<&Sinks>) -> Vec<(usize, usize)> {
        match self {
            Self::None => Vec::new(),
            Self::Extremes => sinks.map_or_else(Vec::new, |sinks| extremes(&sinks.heads)),
            Self::Of(heads) => heads.clone(),
        }
    }

    /// Most vectors of one picture.
    pub fn most_vectors(&self) -> usize {
        if matches!(self, Self::Of(_)) { tsne::MOST_VECTORS } else { FEWER_VECTORS }
    }
}

/// The head with the largest value, and one with the least beside it.
fn extremes(values: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let heads = || values.iter().enumerate().flat_map(|(layer, heads)| (0..heads.len()).map(move |head| (layer, head)));
    let value = |(layer, head): (usize, usize)| values[layer][head];
    let Some(most) = heads().reduce(|best, head| if value(head) > value(best) { head } else { best }) else {
        return Vec::new();
    };
    let alone = values[most.0].len() == 1;
    let beside = heads().filter(|&head| head != most && (alone || head.0 == most.0));
    let least = beside.reduce(|best, head| if value(head) < value(best) { head } else { best });
    [most].into_iter().chain(least).collect()
}

/// Queries and keys of a head in one plane: `most` vectors of tokens of the sample, taken evenly.
pub(crate) fn picture(head: &HeadVectors, sample: &Sample, kinds: &Kinds, most: usize, seed: u64) -> Option<Picture> {
    let count = kinds.spike.len().min(most / 2);
    // Spike tokens are few: all of them, up to a quarter.
    let mut kept = chosen(&kinds.spike, count / 4);
    kept.extend(chosen(&kinds.other, count - kept.len()));
    kept.sort_unstable();
    let gather = |vectors: &[f32]| -> Vec<f32> {
        kept.iter().flat_map(|token| &vectors[token * head.head_dim..][..head.head_dim]).copied().collect()
    };
    let vectors = [gather(&head.queries), gather(&head.keys)].concat();
    let points = tsne::embed(&vectors, head.head_dim, seed)?;
    let seq_len = sample.batch.seq_len;
    let point = |(index, at): (usize, [f32; 2])| {
        let token = kept[index % kept.len()];
        PicturePoint {
            key: index >= kept.len(),
            sequence: sample.sequences[token / seq_len],
            position: token % seq_len,
            spike: kinds.spike[token],
            at,
        }
    };
    Some(Picture { layer: head.layer, head: head.head, points: points.into_iter().enumerate().map(point).collect() })
}

#[cfg(test)]
mod tests {
    use super::extremes;

    #[test]
    fn the_largest_and_the_least_beside_it() {
        assert_eq!(extremes(&[vec![0.1, 0.2, 0.0], vec![0.5, 0.9, 0.4]]), [(1, 1), (1, 2)]);
        assert_eq!(extremes(&[vec![0.5, 0.5, 0.5]]), [(0, 0), (0, 1)]);
        assert_eq!(extremes(&[vec![0.3], vec![0.9], vec![0.2], vec![0.2]]), [(1, 0), (2, 0)]);
        assert_eq!(extremes(&[vec![0.3]]), [(0, 0)]);
        assert!(extremes(&[]).is_empty());
    }
}
