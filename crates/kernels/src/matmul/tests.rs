//! Every way to a product against the definition, in f64.

use rayon::prelude::*;

use super::*;
use crate::in_use::{own_kernel, precisions};

fn naive((m, k, n): (usize, usize, usize), a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for (out, a) in out.chunks_exact_mut(n.max(1)).zip(a.chunks_exact(k.max(1))) {
        for (b, a) in b.chunks_exact(n.max(1)).zip(a) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += a * b);
        }
    }
    out
}

fn values(count: usize, seed: usize) -> Vec<f64> {
    // Dyadic, so that f32 holds them.
    (0..count).map(|i| (((i + seed * 131) * 7919 % 1021) as f64 - 510.0) / 256.0).collect()
}

/// Those that products of `precision` take as they are.
fn kept(precision: Precision, count: usize, seed: usize) -> Vec<f64> {
    let values = values(count, seed);
    if precision == Precision::Medium {
        values.iter().map(|value| (32.0 * value).round() / 32.0).collect()
    } else {
        values
    }
}

fn convert<F: Float>(x: &[f64]) -> Vec<F> {
    x.iter().map(|&v| F::from_f64(v)).collect()
}

/// columns x rows of a rows x columns matrix.
fn turned<F: Float>(x: &[F], rows: usize, columns: usize) -> Vec<F> {
    (0..rows * columns).map(|at| x[at % rows * columns + at / rows]).collect()
}

/// Every second value of rows three values further apart than they must be.
fn spread<F: Float>(x: &[F], columns: usize) -> (Vec<F>, usize) {
    let stride = 2 * columns + 3;
    let mut out = vec![F::from_f64(f64::NAN); x.len() / columns.max(1) * stride + 1];
    for (at, &value) in x.iter().enumerate() {
        out[at / columns * stride + at % columns * 2] = value;
    }
    (out, stride)
}

/// All ways to one product in every precision: each layout of each operand, packed and not, overwriting and adding. Gaps of
/// the output stay.
fn check<F: Float>(shape: (usize, usize, usize), tolerance: f64) {
    for &precision in precisions::<F>() {
        check_of::<F>(precision, shape, if precision == Precision::High { 4.0 * tolerance } else { tolerance });
    }
}

fn check_of<F: Float>(precision: Precision, (m, k, n): (usize, usize, usize), tolerance: f64) {
    let (a, b) = (kept(precision, m * k, 1), kept(precision, k * n, 2));
    let expected = naive((m, k, n), &a, &b);
    let (a, b): (Vec<F>, Vec<F>) = (convert(&a), convert(&b));
    let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
    let ((a_spread, a_stride), (b_spread, b_stride)) = (spread(&a, k), spread(&b, n));
    let lefts = [
        Matrix::new(&a, m, k),
        Matrix::new(&a_turned, k, m).transposed(),
        Matrix::strided(&a_spread, m, k, a_stride, 2),
    ];
    let rights = [
        Matrix::new(&b, k, n),
        Matrix::new(&b_turned, n, k).transposed(),
        Matrix::strided(&b_spread, k, n, b_stride, 2),
    ];
    let stride = n + 3;
    let untouched = F::from_f64(-7.0);
    let mut first: Option<Vec<F>> = None;
    for (left_index, &left) in lefts.iter().enumerate() {
        for (right_index, &right) in rights.iter().enumerate() {
            let packed = PackedRight::new(precision, right);
            for way in 0..2 {
                let mut out = vec![untouched; m * stride];
                for factor in [1.0, 2.0] {
                    let target = MatrixMut::strided(&mut out, m, n, stride);
                    match (way, factor == 1.0) {
                        (0, overwrite) => matmul(target.accumulating(!overwrite), left, Right::Plain(right, precision)),
                        (_, overwrite) => matmul(target.accumulating(!overwrite), left, packed.whole()),
                    }
                    for (at, &found) in out.iter().enumerate() {
                        let (row, column) = (at / stride, at % stride);
                        let wrong = if column < n {
                            (found.to_f64() - factor * expected[row * n + column]).abs() > tolerance * (k + 1) as f64
                        } else {
                            found != untouched
                        };
                        assert!(
                            !wrong,
                            "{precision:?} {m}x{k}x{n} {left_index} {right_index} {way} {factor}: {row}, {column} {found:?}"
                        );
                    }
                    if F::as_f32(&[]).is_some() && own_kernel("bits of every layout") && factor == 1.0 {
                        let first = first.get_or_insert_with(|| out.clone());
                        assert_eq!(first, &out, "{precision:?} {m}x{k}x{n}: other bits");
                    }
                }
            }
        }
    }
}

#[test]
fn products_agree_with_the_definition_around_the_edges_of_tiles() {
    for size in 0..=70 {
        for shape in [(size, 19, 37), (5, size, 37), (13, 19, size), (size, 3, 16), (1, 5, size), (size, 33, 1)] {
            check::<f32>(shape, 1e-5);
            check::<f64>(shape, 1e-13);
        }
    }
    for m in [1, 2, 3, 4, 11, 12, 13, 23, 24, 25] {
        for n in [1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 127, 128, 129, 161] {
            check::<f32>((m, 9, n), 1e-5);
        }
    }
}

#[test]
fn products_agree_with_the_definition_where_they_are_cut() {
    for shape in [(265, 769, 35), (3, 1540, 300), (13, 1537, 70), (270, 40, 530), (530, 21, 1040), (256, 768, 32)] {
        check::<f32>(shape, 1e-5);
    }
    // Operands whose steps are far apart are packed, also where nearer ones are not.
    for shape in [(1030, 20, 40), (30, 20, 1030), (1024, 13, 17), (13, 17, 1024)] {
        check::<f32>(shape, 1e-5);
    }
    check::<f64>((265, 769, 35), 1e-13);
}

#[test]
fn a_row_has_the_same_bits_in_any_tile() {
    let (m, k, n) = (300, 801, 83);
    let (a, b): (Vec<f32>, Vec<f32>) = (convert(&values(m * k, 1)), convert(&values(k * n, 2)));
    let right = Matrix::new(&b, k, n);
    // What `gemm` promises less of.
    let tiles = if own_kernel("bits of other tiles") { &[1, 2, 5, 12, 13, 64, 256][..] } else { &[300] };
    for &precision in precisions::<f32>() {
        let packed = PackedRight::in_parallel(precision, right);
        let mut whole = vec![0.0; m * n];
        matmul(MatrixMut::new(&mut whole, m, n), Matrix::new(&a, m, k), Right::Plain(right, precision));
        for &rows in tiles {
            let mut out = vec![0.0; m * n];
            for (index, (out, a)) in out.chunks_mut(rows * n).zip(a.chunks(rows * k)).enumerate() {
                let (out, a) = (MatrixMut::new(out, a.len() / k, n), Matrix::new(a, a.len() / k, k));
                matmul(out, a, if index % 2 == 0 { packed.whole() } else { Right::Plain(right, precision) });
            }
            assert_eq!(out, whole, "{precision:?}: tiles of {rows} rows");
        }
    }
}

#[test]
fn a_product_shared_with_idle_threads_has_the_same_bits() {
    let (m, k, n) = (300, 400, 600);
    let (a, b): (Vec<f32>, Vec<f32>) = (convert(&values(m * k, 1)), convert(&values(k * n, 2)));
    for &precision in precisions::<f32>() {
        let packed = PackedRight::new(precision, Matrix::new(&b, k, n));
        let run = || {
            let mut out = vec![1.0; m * n];
            matmul(MatrixMut::new(&mut out, m, n).accumulating(true), Matrix::new(&a, m, k), packed.whole());
            out
        };
        let alone = run();
        for threads in [2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            assert_eq!(pool.install(run), alone, "{precision:?}: {threads} threads");
            // Some of these do others while they wait.
            let several: Vec<_> = pool.install(|| (0..7).into_par_iter().with_max_len(1).map(|_| run()).collect());
            assert!(several.iter().all(|out| *out == alone), "{precision:?}: {threads} threads");
        }
    }
}

/// The norm of the error of a product of long sums of values of all magnitudes, over that of the product.
fn relative_error(precision: Precision) -> f64 {
    let (m, k, n) = (40, 2500, 50);
    let wide = |count: usize, seed: usize| -> Vec<f32> {
        let factor = |at: usize| 10f64.powi(((at * 31 + seed) % 7) as i32 - 3);
        values(count, seed).iter().enumerate().map(|(at, value)| (value * factor(at) / 3.0) as f32).collect()
    };
    let (a, b) = (wide(m * k, 1), wide(k * n, 2));
    let exact: Vec<f64> = a.iter().map(|&value| f64::from(value)).collect();
    let exact = naive((m, k, n), &exact, &b.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
    let mut out = vec![0.0f32; m * n];
    let right = Right::Plain(Matrix::new(&b, k, n), precision);
    matmul(MatrixMut::new(&mut out, m, n), Matrix::new(&a, m, k), right);
    let size = |x: &mut dyn Iterator<Item = f64>| x.map(|value| value * value).sum::<f64>().sqrt();
    let error = size(&mut out.iter().zip(&exact).map(|(&found, exact)| f64::from(found) - exact));
    error / size(&mut exact.iter().copied())
}

#[test]
fn products_are_as_exact_as_their_precision_says() {
    let errors: Vec<f64> = precisions::<f32>().iter().map(|&precision| relative_error(precision)).collect();
    // Measured with AMX: 1.1e-5 in the second; these sums are smaller than their terms.
    assert!(errors.iter().zip([1e-6, 2e-5, 1e-2]).all(|(error, most)| *error < most), "{errors:?}");
    assert!(errors.windows(2).all(|pair| pair[0] < 0.1 * pair[1]), "{errors:?}");
}

#[test]
fn values_that_are_no_numbers_reach_what_they_should_and_nothing_else() {
    let (m, k, n) = (40, 70, 50);
    let (mut a, mut b): (Vec<f32>, Vec<f32>) = (convert(&values(m * k, 1)), convert(&values(k * n, 2)));
    let finite = (a.clone(), b.clone());
    (a[3 * k + 69], b[5 * n + 33]) = (f32::from_bits(0x7f80_0001), f32::INFINITY);
    let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
    let lefts = [Matrix::new(&a, m, k), Matrix::new(&a_turned, k, m).transposed()];
    let rights = [Matrix::new(&b, k, n), Matrix::new(&b_turned, n, k).transposed()];
    for &precision in precisions::<f32>() {
        for (left, right) in lefts.iter().flat_map(|left| rights.iter().map(move |right| (*left, *right))) {
            let mut out = vec![0.0; m * n];
            matmul(MatrixMut::new(&mut out, m, n), left, Right::Plain(right, precision));
            for (at, value) in out.iter().enumerate() {
                assert_eq!(!value.is_finite(), at / n == 3 || at % n == 33, "{precision:?}: {at} {value}");
                assert!(value.is_nan() || at / n != 3, "{precision:?}: {at} {value}");
            }
            // Nor what comes later, of fewer rows and another inner size.
            let (left, right) = (Matrix::new(&finite.0[..9 * 41], 9, 41), Matrix::new(&finite.1[..41 * 35], 41, 35));
            let mut out = vec![0.0; 9 * 35];
            matmul(MatrixMut::new(&mut out, 9, 35), left, Right::Plain(right, precision));
            assert!(out.iter().all(|value| value.is_finite()), "{precision:?}");
        }
    }
}

fn check_packing<F: Float>(precision: Precision, rows: usize, columns: usize) {
    let plain: Vec<F> = convert(&kept(precision, rows * columns, 3));
    let turned = turned(&plain, rows, columns);
    let (spread, stride) = spread(&plain, columns);
    let mut reused = PackedRight::new(precision, Matrix::new(&convert(&values(40 * 40, 4)), 40, 40));
    reused.pack(Matrix::strided(&spread, rows, columns, stride, 2));
    let gathered = PackedRight::from_columns(precision, rows, columns, |first, out: &mut [F]| {
        out.copy_from_slice(&turned[first * rows..][..out.len()]);
        Ok::<(), ()>(())
    });
    for packed in [
        PackedRight::new(precision, Matrix::new(&plain, rows, columns)),
        PackedRight::in_parallel(precision, Matrix::new(&turned, columns, rows).transposed()),
        reused,
        gathered.expect("no error"),
    ] {
        assert_eq!((packed.rows(), packed.columns(), packed.precision()), (rows, columns, precision));
        assert_eq!(packed.to_vec(), plain, "{precision:?} {rows}x{columns}");
        assert_eq!(packed.clone().to_vec(), plain, "a copy");
        for (at, &value) in plain.iter().enumerate() {
            assert_eq!(packed.get(at / columns, at % columns), value);
        }
    }
}

#[test]
fn packing_keeps_every_value() {
    for (rows, columns) in [(1, 1), (17, 5), (16, 16), (33, 32), (5, 33), (70, 49), (3, 64), (7, 100), (0, 5), (5, 0)] {
        for &precision in precisions::<f32>() {
            check_packing::<f32>(precision, rows, columns);
        }
        check_packing::<f64>(Precision::Highest, rows, columns);
    }
}

#[test]
fn a_part_multiplies_as_the_matrix_cut_out_does() {
    let (rows, columns) = (2000, 150);
    let plain: Vec<f32> = convert(&values(rows * columns, 3));
    let matrix = Matrix::new(&plain, rows, columns);
    for &precision in precisions::<f32>() {
        let packed = PackedRight::new(precision, matrix);
        for (range, cut) in [
            (0..50_usize, 0..150),
            (3..20, 32..80),
            (49..50, 128..150),
            (10..50, 96..97),
            (5..5, 0..40),
            (64..1901, 32..80),
            (1024..1999, 96..150),
        ] {
            // A part for tiles begins with a step.
            let start = if precision == Precision::Highest { range.start } else { range.start / 32 * 32 };
            let range = start..range.end;
            let (k, n, m) = (range.len(), cut.len(), 37);
            let a: Vec<f32> = convert(&values(m * k, 6));
            let (left, right) = (Matrix::new(&a, m, k), matrix.part(range.clone(), cut.clone()));
            let (mut out, mut expected) = (vec![1.0; m * n], vec![2.0; m * n]);
            for accumulate in [false, true] {
                let into = |out| MatrixMut::new(out, m, n).accumulating(accumulate);
                matmul(into(&mut out), left, packed.part(range.clone(), cut.clone()));
                matmul(into(&mut expected), left, Right::Plain(right, precision));
                assert_eq!(out, expected, "{precision:?} {range:?} {cut:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "inside a packed panel")]
fn a_part_that_begins_inside_a_panel_is_refused() {
    let packed = PackedRight::new(Precision::Highest, Matrix::new(&[0.0f32; 100], 1, 100));
    let _ = packed.part(0..1, 40..60);
}

#[test]
fn one_row_may_have_any_stride() {
    let (k, n) = (9, 40);
    let (a, b): (Vec<f32>, Vec<f32>) = (convert(&values(k, 1)), convert(&values(k * n, 2)));
    for &precision in precisions::<f32>() {
        let mut out = [vec![1.0; n], vec![1.0; n]];
        for (out, stride) in out.iter_mut().zip([n, 0]) {
            let out = MatrixMut::strided(out, 1, n, stride).accumulating(true);
            matmul(out, Matrix::new(&a, 1, k), Right::Plain(Matrix::new(&b, k, n), precision));
        }
        assert_eq!(out[0], out[1], "{precision:?}");
    }
}

#[test]
#[should_panic(expected = "packed together with one before")]
fn a_part_for_tiles_that_begins_inside_a_step_is_refused() {
    let _ = PackedRight::new(Precision::High, Matrix::new(&[0.0f32; 100], 100, 1)).part(40..64, 0..1);
}

#[test]
fn an_error_while_columns_are_gathered_is_given_back() {
    let fill = |first: usize, _: &mut [f32]| if first == 64 { Err(first) } else { Ok(()) };
    assert_eq!(PackedRight::from_columns(Precision::Highest, 3, 100, fill).err(), Some(64));
}

#[test]
fn transposition_moves_every_element_at_odd_sizes() {
    for (rows, columns, first, count) in [(1, 1, 0, 1), (3, 70, 5, 60), (65, 33, 0, 33), (32, 40, 32, 8)] {
        let matrix: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let mut out = vec![0.0; count * rows];
        transpose(&mut out, &matrix, rows, columns, first);
        for column in 0..count {
            for row in 0..rows {
                assert_eq!(out[column * rows + row], matrix[row * columns + first + column]);
            }
        }
    }
}

#[test]
#[should_panic(expected = "exceeds")]
fn a_view_beyond_its_data_is_refused() {
    let _ = Matrix::new(&[0.0f32; 5], 2, 3);
}
