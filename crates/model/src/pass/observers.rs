//! Taps of many types at once: each sees the events it wants, in parallel, and gets its partials back in order.

use std::any::Any;

use rayon::prelude::*;

use crate::edit::{Edit, Mask};
use crate::tap::{BlockView, Event, EventData, Place, Point, Tap};

/// A tap with its partial's type forgotten, so that taps of different types share a pass. Every [`Tap`] is one.
pub trait ErasedTap: Sync {
    /// [`Tap::wants`].
    fn wants(&self, point: Point, block: usize) -> bool;
    /// [`Tap::observe`].
    fn observe(&self, event: &Event<'_>) -> Box<dyn Any + Send>;
    /// [`Tap::merge`]; a partial of another tap's type is ignored.
    fn merge(&mut self, point: Point, place: &Place, partial: Box<dyn Any + Send>);
    /// [`Tap::block_done`].
    fn block_done(&mut self, view: &BlockView<'_>);
}

impl<T: Tap> ErasedTap for T
where
    T::Partial: 'static,
{
    fn wants(&self, point: Point, block: usize) -> bool {
        Tap::wants(self, point, block)
    }

    fn observe(&self, event: &Event<'_>) -> Box<dyn Any + Send> {
        Box::new(Tap::observe(self, event))
    }

    fn merge(&mut self, point: Point, place: &Place, partial: Box<dyn Any + Send>) {
        if let Ok(partial) = partial.downcast() {
            Tap::merge(self, point, place, *partial);
        }
    }

    fn block_done(&mut self, view: &BlockView<'_>) {
        Tap::block_done(self, view);
    }
}

/// What one event left behind.
struct Partial {
    tap: usize,
    point: Point,
    place: Place,
    value: Box<dyn Any + Send>,
}

/// Tiles whose partials are held before they are merged, or as many as there are threads.
const WAVE_TILES: usize = 32;

/// The taps and edits of a pass.
pub(super) struct Observers<'p, 't> {
    pub taps: &'p mut [&'t mut dyn ErasedTap],
    pub edits: &'p [&'p dyn Edit],
}

impl Observers<'_, '_> {
    pub fn any_wants(&self, point: Point, block: usize) -> bool {
        self.taps.iter().any(|tap| tap.wants(point, block))
    }

    /// Does `work` for each task in parallel and merges what the taps made of it in the order of the tasks.
    pub fn in_waves<T: Send>(&mut self, tasks: Vec<T>, work: impl Fn(T, &mut Observer<'_, '_, '_>) + Sync) {
        let mut tasks = tasks.into_iter();
        let tiles = WAVE_TILES.max(rayon::current_num_threads());
        loop {
            let wave: Vec<T> = tasks.by_ref().take(tiles).collect();
            if wave.is_empty() {
                return;
            }
            let observers = &*self;
            let mut partials: Vec<(usize, Vec<Partial>)> = from_both_ends(wave)
                .into_par_iter()
                .with_max_len(1)
                .map(|(index, task)| {
                    let mut observer = Observer { observers, partials: Vec::new() };
                    work(task, &mut observer);
                    (index, observer.partials)
                })
                .collect();
            partials.sort_unstable_by_key(|(index, _)| *index);
            for partial in partials.into_iter().flat_map(|(_, partials)| partials) {
                self.taps[partial.tap].merge(partial.point, &partial.place, partial.value);
            }
        }
    }

    pub fn block_done(&mut self, view: &BlockView<'_>) {
        for tap in self.taps.iter_mut().filter(|tap| tap.wants(Point::BlockDone, view.block)) {
            tap.block_done(view);
        }
    }
}

/// Tasks with their indices, from both ends in turn: later tiles of a long sequence see more keys, and threads take halves.
fn from_both_ends<T>(tasks: Vec<T>) -> Vec<(usize, T)> {
    let mut tasks = tasks.into_iter().enumerate();
    let mut ordered = Vec::with_capacity(tasks.len());
    while let Some(first) = tasks.next() {
        ordered.push(first);
        ordered.extend(tasks.next_back());
    }
    ordered
}

/// The side of the taps and edits that one task sees.
pub(super) struct Observer<'o, 'p, 't> {
    observers: &'o Observers<'p, 't>,
    partials: Vec<Partial>,
}

impl Observer<'_, '_, '_> {
    pub fn wants(&self, point: Point, block: usize) -> bool {
        self.observers.any_wants(point, block)
    }

    /// The first mask that an edit has.
    pub fn mask(&self, block: usize, sequence: usize) -> Mask<'_> {
        self.observers.edits.iter().find_map(|edit| edit.mask(block, sequence)).unwrap_or_default()
    }

    /// Shows one event to every tap that wants it.
    pub fn show(&mut self, point: Point, place: Place, data: EventData<'_>) {
        for (tap, observed) in self.observers.taps.iter().enumerate() {
            if observed.wants(point, place.block) {
                let value = observed.observe(&Event { point, place, data });
                self.partials.push(Partial { tap, point, place, value });
            }
        }
    }

    /// Lets edits change rows, then shows them.
    ///
    /// # Shapes
    /// `values`: the places' rows in order, each of the same width.
    pub fn edit_and_show(&mut self, point: Point, places: &[Place], values: &mut [f32]) {
        for (place, rows) in by_place_mut(places, values) {
            self.edit_place(point, place, rows);
            self.show(point, *place, EventData::Rows(rows));
        }
    }

    /// Lets edits change rows that will be made and shown again.
    pub fn edit(&self, point: Point, places: &[Place], values: &mut [f32]) {
        for (place, rows) in by_place_mut(places, values) {
            self.edit_place(point, place, rows);
        }
    }

    fn edit_place(&self, point: Point, place: &Place, rows: &mut [f32]) {
        for edit in self.observers.edits.iter().filter(|edit| edit.wants(point, place.block)) {
            edit.apply(point, place, rows);
        }
    }
}

/// The rows of each place.
pub(super) fn by_place<'v>(places: &'v [Place], values: &'v [f32]) -> impl Iterator<Item = (&'v Place, &'v [f32])> {
    let rows: usize = places.iter().map(|place| place.rows).sum();
    let width = values.len() / rows;
    let mut rest = values;
    places.iter().map(move |place| {
        let (rows, after) = rest.split_at(place.rows * width);
        rest = after;
        (place, rows)
    })
}

/// The same, to be changed.
fn by_place_mut<'v>(places: &'v [Place], values: &'v mut [f32]) -> impl Iterator<Item = (&'v Place, &'v mut [f32])> {
    let rows: usize = places.iter().map(|place| place.rows).sum();
    let width = values.len() / rows;
    let mut rest = values;
    places.iter().map(move |place| {
        let (rows, after) = std::mem::take(&mut rest).split_at_mut(place.rows * width);
        rest = after;
        (place, rows)
    })
}
