//! Every option of attention against central differences.

use crate::attention::tests::{Owned, group, narrow};
use crate::attention::*;
use crate::differences::{assert_close, convert, gradient, inner, values};
use crate::float::Float;
use crate::in_use::precisions;

#[derive(Clone)]
struct Case {
    group: HeadGroup<f64>,
    rows: usize,
    queries: Vec<f64>,
    keys: Vec<f64>,
    values: Vec<f64>,
    d_out: Vec<f64>,
    owned: Owned,
    hidden: Vec<bool>,
}

/// Numbers between two rows that belong to somebody else.
const GAP: usize = 3;

impl Case {
    fn new(group: HeadGroup<f64>, rows: usize) -> Self {
        let (query_width, key_width) = (group.queries_per_key * group.head_dim + GAP, group.head_dim + GAP);
        Self {
            group,
            rows,
            queries: values(rows * query_width, 1),
            keys: values(rows * key_width, 2),
            values: values(rows * key_width, 3),
            d_out: values(rows * query_width, 4),
            owned: Owned::default(),
            hidden: Vec::new(),
        }
    }

    fn strides(&self) -> (usize, usize) {
        (self.group.queries_per_key * self.group.head_dim + GAP, self.group.head_dim + GAP)
    }

    fn operands<'a, F>(&self, queries: &'a [F], keys: &'a [F], values: &'a [F]) -> Operands<'a, F> {
        let (query_stride, key_stride) = self.strides();
        Operands {
            rows: self.rows,
            first_position: 0,
            queries: Strided { data: queries, row_stride: query_stride },
            keys: Strided { data: keys, row_stride: key_stride },
            values: Strided { data: values, row_stride: key_stride },
        }
    }

    /// Output and log-sum-exp.
    fn forward<F: Float>(&self, precision: Precision) -> (Vec<F>, Vec<F>) {
        let (query_stride, _) = self.strides();
        let (queries, keys, values) =
            (convert::<F>(&self.queries), convert::<F>(&self.keys), convert::<F>(&self.values));
        let mut out = vec![F::ZERO; self.queries.len()];
        let scan = self.with_extras(|extras| {
            attend(
                &HeadGroup { precision, ..narrow::<F>(&self.group) },
                &self.operands(&queries, &keys, &values),
                StridedMut { data: &mut out, row_stride: query_stride },
                &extras,
                Look::LogSumExp,
            )
        });
        (out, scan.expect("asked for").log_sum_exp)
    }

    fn with_extras<F: Float, R>(&self, then: impl FnOnce(Extras<'_, F>) -> R) -> R {
        let slopes = convert::<F>(&self.owned.slopes);
        let entry = self.owned.entry.as_ref();
        let entry = entry.map(|(scores, value)| (convert::<F>(scores), value.as_deref().map(convert::<F>)));
        then(Extras {
            mask: Mask { hidden: &self.hidden, alone: &[] },
            sinks: None,
            slopes: &slopes,
            entry: entry.as_ref().map(|(scores, value)| Entry {
                scores: Strided { data: scores, row_stride: self.group.queries_per_key },
                value: value.as_deref(),
            }),
        })
    }

    fn loss(&self) -> f64 {
        inner(&self.forward::<f64>(Precision::Highest).0, &self.d_out)
    }

    /// Gradients of queries, keys, values, the entry's scores and its value (which starts from 1).
    fn backward<F: Float>(&self, precision: Precision) -> [Vec<F>; 5] {
        let (query_stride, key_stride) = self.strides();
        let (queries, keys, values) =
            (convert::<F>(&self.queries), convert::<F>(&self.keys), convert::<F>(&self.values));
        let d_out = convert::<F>(&self.d_out);
        let (out, log_sum_exp) = self.forward::<F>(precision);
        let of_length = |length: usize| vec![F::from_f64(9.0); length];
        let mut d = [
            of_length(queries.len()),
            of_length(keys.len()),
            of_length(keys.len()),
            of_length(self.rows * self.group.queries_per_key),
            vec![F::ONE; self.group.head_dim],
        ];
        let [d_queries, d_keys, d_values, d_scores, d_value] = &mut d;
        let forward = Forward {
            operands: self.operands(&queries, &keys, &values),
            out: Strided { data: &out, row_stride: query_stride },
            log_sum_exp: &log_sum_exp,
        };
        let mut gradients = Gradients {
            queries: StridedMut { data: d_queries, row_stride: query_stride },
            keys: StridedMut { data: d_keys, row_stride: key_stride },
            values: StridedMut { data: d_values, row_stride: key_stride },
            entry: Some(EntryGradients {
                scores: StridedMut { data: d_scores, row_stride: self.group.queries_per_key },
                value: Some(d_value),
            }),
        };
        let d_out = Strided { data: &d_out, row_stride: query_stride };
        self.with_extras(|extras| {
            attend_backward(
                &HeadGroup { precision, ..narrow::<F>(&self.group) },
                &forward,
                d_out,
                &extras,
                &mut gradients,
            );
        });
        d
    }

    /// Without the gaps between rows, in which what was there must still be.
    fn rows_of<F: Float>(values: &[F], stride: usize) -> Vec<F> {
        assert!(values.chunks(stride).all(|row| row[stride - GAP..].iter().all(|&v| v == F::from_f64(9.0))));
        values.chunks(stride).flat_map(|row| row[..stride - GAP].to_vec()).collect()
    }

    fn differences(&self, of: impl Fn(&mut Case) -> &mut Vec<f64>) -> Vec<f64> {
        let mut start = self.clone();
        let x = of(&mut start).clone();
        gradient(&x, |x| {
            let mut moved = self.clone();
            of(&mut moved).copy_from_slice(x);
            moved.loss()
        })
    }

    /// Those of f64 against differences, and those of f32 in every precision against f64.
    fn check(&self, what: &str) {
        let (query_stride, key_stride) = self.strides();
        let wide = self.backward::<f64>(Precision::Highest);
        let strides = [query_stride, key_stride, key_stride];
        for at in 0..3 {
            let differences = self.differences(|case| match at {
                0 => &mut case.queries,
                1 => &mut case.keys,
                _ => &mut case.values,
            });
            let without_gaps = |row: &[f64]| row[..strides[at] - GAP].to_vec();
            let expected: Vec<f64> = differences.chunks(strides[at]).flat_map(without_gaps).collect();
            let given = Self::rows_of(&wide[at], strides[at]);
            assert_close(&format!("{what}, operand {at}"), &given, &expected, 1e-6);
        }
        let valued = matches!(&self.owned.entry, Some((_, Some(_))));
        if self.owned.entry.is_some() {
            let expected = self.differences(|case| &mut case.owned.entry.as_mut().expect("is there").0);
            assert_close(&format!("{what}, entry"), &wide[3], &expected, 1e-6);
        }
        if valued {
            let mut expected = self
                .differences(|case| case.owned.entry.as_mut().and_then(|(_, value)| value.as_mut()).expect("is there"));
            for gradient in &mut expected {
                *gradient += 1.0;
            }
            assert_close(&format!("{what}, entry's value"), &wide[4], &expected, 1e-6);
        } else {
            assert!(wide[4].iter().all(|&value| value == 1.0));
        }
        for (&precision, tolerance) in precisions::<f32>().iter().zip([1e-4, 1e-4, 3e-2]) {
            let what = format!("{what}, in f32, {precision:?}");
            let narrow = self.backward::<f32>(precision);
            for at in 0..3 {
                let (narrow, wide) = (Self::rows_of(&narrow[at], strides[at]), Self::rows_of(&wide[at], strides[at]));
                assert_close(&format!("{what}, operand {at}"), &narrow, &wide, tolerance);
            }
            if self.owned.entry.is_some() {
                assert_close(&format!("{what}, entry"), &narrow[3], &wide[3], tolerance);
            }
            if valued {
                assert_close(&format!("{what}, entry's value"), &narrow[4], &wide[4], tolerance);
            }
        }
    }
}

#[test]
fn gradients_agree_with_differences_in_every_combination() {
    let weightings = [Weighting::Softmax, Weighting::Sigmoid { bias: -1.5 }];
    for (heads, head_dim, rows) in [(1, 3, 1), (2, 5, 13)] {
        for (window, soft_cap) in [(None, None), (Some(4), None), (None, Some(2.0)), (Some(5), Some(1.5))] {
            for (weighting, alibi) in weightings.iter().flat_map(|&weighting| [(weighting, false), (weighting, true)]) {
                for entry in 0..3 {
                    let shape = HeadGroup { soft_cap, window, weighting, ..group(heads, head_dim) };
                    let mut case = Case::new(shape, rows);
                    if alibi {
                        case.owned.slopes = (0..heads).map(|head| 0.2 + 0.3 * head as f64).collect();
                    }
                    let value = (entry == 2).then(|| values(head_dim, 6));
                    case.owned.entry = (entry > 0).then(|| (values(rows * heads, 5), value));
                    case.check(&format!("{shape:?}, ALiBi {alibi}, entry {entry}"));
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_differences_across_tiles() {
    for window in [None, Some(20)] {
        let mut case = Case::new(HeadGroup { window, ..group(1, 2) }, 131);
        case.check(&format!("131 rows, window {window:?}"));
        case.owned.entry = Some((values(131, 5), Some(values(2, 6))));
        case.owned.slopes = vec![0.1];
        case.hidden = (0..131).map(|position| position % 7 == 3).collect();
        case.check(&format!("131 rows, window {window:?}, everything"));
    }
}

#[test]
fn lower_precisions_round_both_ways() {
    let case = Case::new(group(2, 16), 70);
    let highest = (case.forward::<f32>(Precision::Highest).0, case.backward::<f32>(Precision::Highest));
    for &precision in &precisions::<f32>()[1..] {
        let lower = (case.forward::<f32>(precision).0, case.backward::<f32>(precision));
        assert_ne!(lower.0, highest.0, "{precision:?}");
        for at in 0..3 {
            assert_ne!(lower.1[at], highest.1[at], "{precision:?}, operand {at}");
        }
    }
}

/// A query that attends to one key alone has scores without a gradient, however products round.
#[test]
fn the_gradients_of_a_rows_scores_add_up_to_zero() {
    let (rows, width) = (40, 8);
    for &precision in precisions::<f32>() {
        let mut case = Case::new(group(1, width), rows);
        // All keys alike but the first, which all queries are drawn to.
        for (at, key) in case.keys.chunks_mut(width + GAP).enumerate() {
            key[..width].fill(if at == 0 { 30.0 } else { 0.0 });
        }
        for query in case.queries.chunks_mut(width + GAP) {
            query[..width].fill(1.0);
        }
        let [d_queries, ..] = case.backward::<f32>(precision);
        let largest = Case::rows_of(&d_queries, width + GAP).iter().fold(0.0_f32, |largest, d| largest.max(d.abs()));
        assert!(largest < 1e-4, "{precision:?}: {largest:e}");
    }
}
