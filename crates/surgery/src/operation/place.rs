//! Where an operation is done, as users type it: numbers in lists and ranges, and names of tensors and projections.

use std::ops::RangeInclusive;

/// Numbers in the order in which they were typed: `3`, `0-3`, `0-3,7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers(Vec<RangeInclusive<usize>>);

impl Numbers {
    /// The numbers of a list; `None` if it is none.
    pub fn parse(list: &str) -> Option<Self> {
        list.split(',').map(range).collect::<Option<_>>().map(Self)
    }

    /// 0 to `last`.
    pub fn up_to(last: usize) -> Self {
        Self(vec![0..=last])
    }

    /// Whether a number is among them.
    pub fn contains(&self, number: usize) -> bool {
        self.0.iter().any(|range| range.contains(&number))
    }

    /// All of them. A range can be long: [`Self::largest`] says beforehand whether they exist.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().cloned().flatten()
    }

    /// The largest.
    pub fn largest(&self) -> usize {
        self.0.iter().map(|range| *range.end()).max().unwrap_or(0)
    }
}

impl From<usize> for Numbers {
    fn from(number: usize) -> Self {
        Self(vec![number..=number])
    }
}

/// Blocks, layers, or what a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Blocks, from 1 (0 is the embedding).
    Blocks(RangeInclusive<usize>),
    /// Layers, from 0.
    Layers(RangeInclusive<usize>),
    /// The name of a tensor or of a projection, or a part of it.
    Name(String),
}

impl Place {
    /// The places of `@block=LIST`: blocks, and names of tensors, which have dots.
    pub fn blocks(list: &str) -> Option<Vec<Self>> {
        let place = |item: &str| match range(item) {
            Some(range) => Some(Self::Blocks(range)),
            None => item.contains('.').then(|| Self::Name(item.to_owned())),
        };
        list.split(',').map(place).collect()
    }

    /// The places of `@layer=LIST`.
    pub fn layers(list: &str) -> Option<Vec<Self>> {
        list.split(',').map(|item| range(item).map(Self::Layers)).collect()
    }

    /// The places of a list of names: projections, tensors, `layer=LIST` and `block=LIST`.
    ///
    /// # Errors
    /// The item that is none of them.
    pub fn named(list: &str) -> Result<Vec<Self>, &str> {
        let mut of: Option<fn(RangeInclusive<usize>) -> Self> = None;
        let mut places = Vec::new();
        for item in list.split(',') {
            let numbers = match item.split_once('=') {
                Some(("layer" | "layers", numbers)) => {
                    of = Some(Self::Layers);
                    numbers
                }
                Some(("block" | "blocks", numbers)) => {
                    of = Some(Self::Blocks);
                    numbers
                }
                Some(_) => return Err(item),
                None => item,
            };
            match (range(numbers), of) {
                (Some(range), Some(of)) => places.push(of(range)),
                (None, _) if numbers == item && !is_numeric(item) => {
                    of = None;
                    places.push(Self::Name(item.to_owned()));
                }
                _ => return Err(item),
            }
        }
        Ok(places)
    }
}

/// Whether an item is empty, or meant to be a number or a range.
fn is_numeric(item: &str) -> bool {
    item.chars().all(|letter| letter.is_ascii_digit() || letter == '-')
}

/// A number, or a range that does not run backwards.
fn range(item: &str) -> Option<RangeInclusive<usize>> {
    let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (first, last) = match item.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(item)?, number(item)?),
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_lists_of_ranges() {
        let numbers = Numbers::parse("7,0-3,12").expect("numbers");
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [7, 0, 1, 2, 3, 12]);
        assert!(numbers.contains(2) && !numbers.contains(4) && numbers.largest() == 12);
        for wrong in ["", "3-", "-3", "5-3", "1,,2", "a", "+3", "1-2-3", "0..3"] {
            assert_eq!(Numbers::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_stand_beside_numbers_of_layers_and_blocks() {
        let name = |name: &str| Place::Name(name.to_owned());
        assert_eq!(
            Place::named("down_proj,layer=10-14,20,block=3,blk.11.ffn_down"),
            Ok(vec![
                name("down_proj"),
                Place::Layers(10..=14),
                Place::Layers(20..=20),
                Place::Blocks(3..=3),
                name("blk.11.ffn_down")
            ])
        );
        for (list, item) in
            [("10-14", "10-14"), ("down,3", "3"), ("", ""), ("layer=x", "layer=x"), ("head=3", "head=3")]
        {
            assert_eq!(Place::named(list), Err(item));
        }
        assert_eq!(
            Place::blocks("3,5-7,blk.2.ffn_up"),
            Some(vec![Place::Blocks(3..=3), Place::Blocks(5..=7), name("blk.2.ffn_up")])
        );
        assert_eq!((Place::blocks("last"), Place::layers("blk.2")), (None, None));
    }
}
