//! The parts of an operation as typed, before they mean anything: a name, a value, places and modifiers in any order.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Numbers, Place, WhichTokens};
use crate::error::SurgeryError;

/// Most runs of a sweep.
const MOST_STEPS: usize = 65;

/// An operation's parts. What a kind of operation takes out of them is none of its business any more; nothing may be left.
pub(super) struct Parts<'a> {
    typed: &'a str,
    pub name: &'a str,
    pub value: Option<&'a str>,
    pub places: Option<Vec<Place>>,
    pub tokens: Option<WhichTokens>,
    pub channels: Option<Numbers>,
    modifiers: Vec<(&'a str, Option<&'a str>)>,
}

/// A name and its value.
fn pair(piece: &str) -> (&str, Option<&str>) {
    piece.split_once('=').map_or((piece, None), |(name, value)| (name, Some(value)))
}

impl<'a> Parts<'a> {
    pub fn new(typed: &'a str) -> Result<Self, SurgeryError> {
        let end = typed.find(['@', '+']).unwrap_or(typed.len());
        let (name, value) = pair(&typed[..end]);
        let mut parts = Self { typed, name, value, places: None, tokens: None, channels: None, modifiers: Vec::new() };
        let mut rest = &typed[end..];
        while let Some(mark) = rest.chars().next() {
            let piece = &rest[1..];
            let end = piece.find(['@', '+']).unwrap_or(piece.len());
            rest = &piece[end..];
            let (key, value) = pair(&piece[..end]);
            if mark == '@' {
                parts.add_place(key, value.unwrap_or(""))?;
            } else if parts.modifiers.iter().any(|(there, _)| *there == key) {
                return Err(parts.wrong(format!("+{key} is given twice")));
            } else {
                parts.modifiers.push((key, value));
            }
        }
        Ok(parts)
    }

    fn add_place(&mut self, key: &str, value: &str) -> Result<(), SurgeryError> {
        let wrong = |what: &str| Err(self.wrong(format!("@{key}={value} is not {what}")));
        let twice = match key {
            "block" | "blocks" | "layer" | "layers" => self.places.is_some(),
            "position" | "positions" => self.tokens.is_some(),
            "channel" | "channels" => self.channels.is_some(),
            _ => false,
        };
        if twice {
            return Err(self.wrong(format!("@{key}: a second place of its kind; give one list, such as {key}=3,5-7")));
        }
        match key {
            "block" | "blocks" => match Place::blocks(value) {
                Some(places) => self.places = Some(places),
                None => return wrong("a block; give numbers such as 24 or 3,5-7, or a tensor's name"),
            },
            "layer" | "layers" => match Place::layers(value) {
                Some(places) => self.places = Some(places),
                None => return wrong("a layer; give numbers such as 11 or 3,5-7, from 0"),
            },
            "position" | "positions" if value == "all" => self.tokens = Some(WhichTokens::All),
            "position" | "positions" => match Numbers::parse(value) {
                Some(positions) => self.tokens = Some(WhichTokens::Positions(positions)),
                None => return wrong("a position or `all`; give numbers such as 0 or 0-3,17"),
            },
            "channel" | "channels" => match Numbers::parse(value) {
                Some(channels) => self.channels = Some(channels),
                None => return wrong("a list of channels; give numbers such as 507,247"),
            },
            _ => {
                let reason =
                    format!("@{key}={value} is not a place; there are @block=, @layer=, @position= and @channels=");
                return Err(self.wrong(reason));
            }
        }
        Ok(())
    }

    pub fn wrong(&self, reason: String) -> SurgeryError {
        SurgeryError::Operation { operation: self.typed.to_owned(), reason }
    }

    pub fn number<T: FromStr>(&mut self, what: &str, example: &str) -> Result<T, SurgeryError> {
        let value = self.value.take();
        value.and_then(|value| value.parse().ok()).ok_or_else(|| self.wrong(format!("needs {what}, as in {example}")))
    }

    pub fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, SurgeryError> {
        let value = self.value.take().unwrap_or("");
        choices.iter().find(|(name, _)| *name == value).map(|choice| choice.1).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|choice| format!("{}={}", self.name, choice.0)).collect();
            self.wrong(format!("needs a value: {}", names.join(" or ")))
        })
    }

    pub fn take_tokens(&mut self, usual: WhichTokens) -> WhichTokens {
        self.tokens.take().unwrap_or(usual)
    }

    /// Refuses modifiers that are none of these, as they are typed.
    pub fn allow(&self, allowed: &[&str]) -> Result<(), SurgeryError> {
        let known = |key: &str| allowed.iter().any(|name| pair(name).0 == key);
        match self.modifiers.iter().find(|(key, _)| !known(key)) {
            Some((key, _)) => {
                let names: Vec<String> = allowed.iter().map(|name| format!("+{name}")).collect();
                Err(self.wrong(format!("+{key} cannot be added, only {}", names.join(" or "))))
            }
            None => Ok(()),
        }
    }

    /// Takes a modifier without a value; whether it was there.
    pub fn flag(&mut self, name: &str) -> Result<bool, SurgeryError> {
        match self.take(name) {
            Some((_, Some(value))) => Err(self.wrong(format!("+{name} takes no value, and {value:?} was given"))),
            there => Ok(there.is_some()),
        }
    }

    /// Takes a modifier that has a value.
    pub fn modifier(&mut self, name: &str, what: &str) -> Result<Option<&'a str>, SurgeryError> {
        match self.take(name) {
            Some((_, None)) => Err(self.wrong(format!("+{name} needs {what}"))),
            there => Ok(there.and_then(|(_, value)| value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<(&'a str, Option<&'a str>)> {
        let at = self.modifiers.iter().position(|(key, _)| *key == name)?;
        Some(self.modifiers.remove(at))
    }

    /// The layers that `+except` or `+only` names.
    pub fn names(&mut self, modifier: &str) -> Result<Option<Vec<Place>>, SurgeryError> {
        let what = "names: projections such as down_proj, tensors, layer=10-14, block=24";
        let Some(list) = self.modifier(modifier, what)? else { return Ok(None) };
        Place::named(list)
            .map(Some)
            .map_err(|item| self.wrong(format!("+{modifier}: {item:?} names no layers; give {what}")))
    }

    /// The tokens that are kept as they are: those of one of these flags, or the positions of `+keep`, which may be a sweep.
    pub fn kept(&mut self, flags: &[(&str, WhichTokens)]) -> Result<Kept, SurgeryError> {
        let names: Vec<String> = flags.iter().map(|(name, _)| format!("+{name}")).collect();
        let mut kept: Vec<WhichTokens> = Vec::new();
        for (name, usual) in flags {
            if self.flag(name)? {
                kept.push(usual.clone());
            }
        }
        let what = "positions such as 0-3, or 0..8 for a run with each of the first 0 to 8 tokens kept";
        if let Some(list) = self.modifier("keep", what)? {
            if self.tokens.is_some() {
                return Err(self.wrong("+keep names its positions already; @position says nothing more".to_owned()));
            }
            if let Some((first, last)) = list.split_once("..") {
                let steps = first.parse().ok().zip(last.parse().ok()).map(|(first, last): (usize, usize)| first..=last);
                let plain = |steps: &RangeInclusive<usize>| list == format!("{}..{}", steps.start(), steps.end());
                return match steps.filter(|steps| kept.is_empty() && !steps.is_empty() && plain(steps)) {
                    Some(steps) if steps.end() - steps.start() < MOST_STEPS => {
                        Ok(Kept { tokens: None, sweep: Some(steps) })
                    }
                    Some(_) => Err(self.wrong(format!("+keep={list} is more than {MOST_STEPS} runs"))),
                    None => Err(self.wrong(format!("+keep={list} is not {what}, alone"))),
                };
            }
            match Numbers::parse(list) {
                Some(positions) => kept.push(WhichTokens::Positions(positions)),
                None => return Err(self.wrong(format!("+keep={list} is not {what}"))),
            }
        }
        match kept.len() {
            0 if self.tokens.is_some() => {
                Err(self.wrong(format!("@position says which tokens to keep; add {}", names.join(" or "))))
            }
            0 | 1 => {
                let tokens = kept.pop().map(|usual| self.take_tokens(usual));
                Ok(Kept { tokens, sweep: None })
            }
            _ => Err(self.wrong(format!("takes one of {} or +keep=P", names.join(" or ")))),
        }
    }

    /// Nothing may be left over.
    pub fn finish(self) -> Result<(), SurgeryError> {
        let left = [
            (self.value.is_some(), "value"),
            (self.places.is_some(), "@block"),
            (self.tokens.is_some(), "@position"),
            (self.channels.is_some(), "@channels"),
            (!self.modifiers.is_empty(), "modifier"),
        ];
        match left.iter().find(|(is_left, _)| *is_left) {
            Some((_, what)) => Err(self.wrong(format!("takes no {what}"))),
            None => Ok(()),
        }
    }
}

/// Which tokens stay as they are.
pub(super) struct Kept {
    pub tokens: Option<WhichTokens>,
    pub sweep: Option<RangeInclusive<usize>>,
}
