//! Pictures of queries and keys (Fig. 6): t-SNE (van der Maaten and Hinton 2008), exact, in two dimensions.

use bhtsne::tSNE;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Most vectors of one picture: the exact method takes time and memory in the square of their number.
pub const MOST_VECTORS: usize = 800;

const PERPLEXITY: f32 = 30.0;
/// What the method's neighbourhoods need.
const LEAST_VECTORS: usize = 8;
const EXTENT: f32 = 1e-4;

/// Two coordinates for each vector, in order; `None` of fewer than eight vectors or more than [`MOST_VECTORS`]. The same
/// for equal seeds, on any number of threads.
///
/// # Shapes
/// `vectors`: count x `width`.
pub fn embed(vectors: &[f32], width: usize, seed: u64) -> Option<Vec<[f32; 2]>> {
    let rows: Vec<&[f32]> = vectors.chunks_exact(width).collect();
    if !(LEAST_VECTORS..=MOST_VECTORS).contains(&rows.len()) {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let start: Vec<f32> = (0..2 * rows.len()).map(|_| random.random_range(-EXTENT..EXTENT)).collect();
    let distance = |a: &&[f32], b: &&[f32]| a.iter().zip(*b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    // The method adds up in an order that depends on the number of threads, so it gets one.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()?;
    let points = one.install(|| {
        let mut tsne: tSNE<'_, f32, &[f32]> = tSNE::new(&rows);
        tsne.perplexity(PERPLEXITY.min((rows.len() - 1) as f32 / 3.0)).initial_embedding(start).exact(distance);
        tsne.embedding()
    });
    Some(points.as_chunks::<2>().0.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters() -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let point = |cluster: usize, random: &mut ChaCha8Rng| {
            let centre = 10.0 * cluster as f32;
            (0..6).map(|_| centre + random.random_range(-1.0..1.0)).collect::<Vec<f32>>()
        };
        (0..60).flat_map(|index| point(index % 2, &mut random)).collect()
    }

    #[test]
    fn clusters_stay_apart() {
        let points = embed(&clusters(), 6, 0).expect("enough");
        let distance = |a: [f32; 2], b: [f32; 2]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
        for (index, &point) in points.iter().enumerate() {
            let others = (0..points.len()).filter(|&other| other != index);
            let nearest = others.min_by(|&a, &b| distance(point, points[a]).total_cmp(&distance(point, points[b])));
            assert_eq!(nearest.map(|other| other % 2), Some(index % 2));
        }
    }

    #[test]
    fn equal_seeds_give_equal_pictures_on_any_threads() {
        let run = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| embed(&clusters(), 6, seed))
        };
        assert_eq!(run(1, 3), run(4, 3));
        assert_ne!(run(1, 3), run(1, 4));
    }

    #[test]
    fn too_few_vectors_give_no_picture() {
        assert_eq!(embed(&[0.0; 14], 2, 0), None);
    }
}
