//! Lines and shapes cut at the edge of a rectangle, and lines cut into dashes.

use super::canvas::{Area, Spot};

/// The part of a line within `area`.
pub(super) fn segment(from: Spot, to: Spot, area: &Area) -> Option<(Spot, Spot)> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
    // Liang and Barsky: how fast the line leaves every edge behind, and how far away the edge is.
    let edges =
        [(-dx, from.0 - area.left), (dx, area.right - from.0), (-dy, from.1 - area.top), (dy, area.bottom - from.1)];
    for (speed, distance) in edges {
        if speed == 0.0 {
            if distance < 0.0 {
                return None;
            }
        } else if speed < 0.0 {
            enter = enter.max(distance / speed);
        } else {
            leave = leave.min(distance / speed);
        }
    }
    let at = |share: f64| if share == 1.0 { to } else { (from.0 + share * dx, from.1 + share * dy) };
    (enter <= leave).then(|| (at(enter), at(leave)))
}

/// The parts of a line through `spots` within `area`.
pub(super) fn path(spots: &[Spot], area: &Area) -> Vec<Vec<Spot>> {
    let mut parts: Vec<Vec<Spot>> = Vec::new();
    for pair in spots.windows(2) {
        let Some((from, to)) = segment(pair[0], pair[1], area) else { continue };
        match parts.last_mut() {
            Some(part) if part.last() == Some(&from) => part.push(to),
            _ => parts.push(vec![from, to]),
        }
    }
    parts
}

/// The part of a shape within `area`.
pub(super) fn shape(spots: &[Spot], area: &Area) -> Vec<Spot> {
    // Sutherland and Hodgman: one edge after another. How far inside of the edge a spot is.
    let edges: [fn(&Area, Spot) -> f64; 4] = [
        |area, spot| spot.0 - area.left,
        |area, spot| area.right - spot.0,
        |area, spot| spot.1 - area.top,
        |area, spot| area.bottom - spot.1,
    ];
    let mut spots = spots.to_vec();
    for inside in edges {
        let mut kept = Vec::with_capacity(spots.len() + 4);
        for (index, &spot) in spots.iter().enumerate() {
            let before = spots[(index + spots.len() - 1) % spots.len()];
            let (was, is) = (inside(area, before), inside(area, spot));
            if (was < 0.0) != (is < 0.0) {
                let share = was / (was - is);
                kept.push((before.0 + share * (spot.0 - before.0), before.1 + share * (spot.1 - before.1)));
            }
            if is >= 0.0 {
                kept.push(spot);
            }
        }
        spots = kept;
    }
    spots
}

/// Pieces `on` pixels long with gaps of `off` pixels.
pub(super) fn dashes(spots: &[Spot], on: f64, off: f64) -> Vec<Vec<Spot>> {
    let mut pieces = vec![spots.first().copied().into_iter().collect::<Vec<_>>()];
    let (mut drawing, mut left) = (true, on);
    for pair in spots.windows(2) {
        let ((x, y), (dx, dy)) = (pair[0], (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1));
        let length = dx.hypot(dy);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let spot = (x + dx * done / length, y + dy * done / length);
            match pieces.last_mut() {
                Some(piece) if drawing => piece.push(spot),
                _ => pieces.push(vec![spot]),
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
        left -= length - done;
        if let (true, Some(piece)) = (drawing, pieces.last_mut()) {
            piece.push(pair[1]);
        }
    }
    pieces.retain(|piece| piece.len() > 1);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 };

    #[test]
    fn lines_end_at_the_edge() {
        assert_eq!(segment((-5.0, 5.0), (5.0, 5.0), &AREA), Some(((0.0, 5.0), (5.0, 5.0))));
        assert_eq!(segment((-5.0, -5.0), (15.0, 15.0), &AREA), Some(((0.0, 0.0), (10.0, 10.0))));
        assert_eq!(segment((-5.0, 11.0), (15.0, 11.0), &AREA), None);
        assert_eq!(path(&[(1.0, 1.0), (5.0, 5.0), (5.0, 20.0), (8.0, 20.0), (8.0, 2.0)], &AREA).len(), 2);
    }

    #[test]
    fn shapes_end_at_the_edge() {
        let cut = shape(&[(-5.0, -5.0), (15.0, -5.0), (15.0, 5.0), (-5.0, 5.0)], &AREA);
        assert_eq!(cut.len(), 4);
        assert!(cut.iter().all(|&(x, y)| (0.0..=10.0).contains(&x) && (0.0..=5.0).contains(&y)), "{cut:?}");
        assert!(shape(&[(20.0, 0.0), (30.0, 0.0), (30.0, 5.0)], &AREA).is_empty());
        assert!(shape(&[], &AREA).is_empty());
    }

    #[test]
    fn dashes_go_round_corners() {
        let pieces = dashes(&[(0.0, 0.0), (4.0, 0.0), (4.0, 6.0)], 3.0, 2.0);
        assert_eq!(pieces, [vec![(0.0, 0.0), (3.0, 0.0)], vec![(4.0, 1.0), (4.0, 4.0)]]);
        assert!(dashes(&[], 3.0, 2.0).is_empty());
    }
}
