//! From what users type to an [`Operation`].

use std::str::FromStr;

use sinkscope_model::pass::Window;
use sinkscope_model::spelling::nearest;

use super::{Apart, FORMS, Kind, Operation, SpikeChange, TokenChange, ValueChange, WhichTokens};
use crate::error::SurgeryError;
use crate::quantise::Scheme;

/// The form that is meant, if there is one.
fn meant(name: &str) -> Option<&'static str> {
    nearest(name, &FORMS, |form| form.name()).map(|form| form.typed)
}

impl Operation {
    /// Whether a word is meant to be an operation, right or wrong, and nothing else.
    pub fn is_meant(word: &str) -> bool {
        word.contains(['=', '@']) || meant(word.split('+').next().unwrap_or(word)).is_some()
    }
}

/// An operation's parts, before they mean anything.
struct Parts<'a> {
    typed: &'a str,
    name: &'a str,
    value: Option<&'a str>,
    block: Option<usize>,
    tokens: Option<WhichTokens>,
    channels: Option<Vec<usize>>,
    modifiers: Vec<&'a str>,
}

impl FromStr for Operation {
    type Err = SurgeryError;

    fn from_str(typed: &str) -> Result<Self, SurgeryError> {
        let mut parts = Parts::new(typed)?;
        let kind = match parts.name {
            "zero-spikes" => parts.spikes(SpikeChange::Zero)?,
            "mean-spikes" => parts.spikes(SpikeChange::Mean)?,
            "zero-rescale-spikes" => parts.spikes(SpikeChange::ZeroRescale)?,
            "scale-spikes" => {
                let factor: f32 = parts.number("a factor", "scale-spikes=0.5")?;
                if !factor.is_finite() {
                    return Err(parts.wrong(format!("{factor} is not a finite factor")));
                }
                parts.spikes(SpikeChange::Scale(factor))?
            }
            "skip-block" => {
                let block = parts.number("a block", "skip-block=24")?;
                if parts.block.is_some() {
                    return Err(parts.wrong("names its block already; @block says nothing more".into()));
                }
                Kind::SkipBlock { block, tokens: parts.take_tokens(WhichTokens::Spikes) }
            }
            "skip-head" => {
                let value = parts.value.take().unwrap_or("");
                let numbers = value.split_once('.').map(|(layer, head)| (layer.parse(), head.parse()));
                let Some((Ok(layer), Ok(head))) = numbers else {
                    return Err(parts.wrong("needs a layer and a head, both from 0, as in skip-head=12.3".into()));
                };
                Kind::SkipHead { layer, head, tokens: parts.take_tokens(WhichTokens::All) }
            }
            "sink-value" => parts.values(WhichTokens::Sinks)?,
            "spike-value" => parts.values(WhichTokens::Spikes)?,
            "self-only" if parts.tokens.is_none() => {
                return Err(parts.wrong(
                    "needs a token, as in self-only@position=5: the first has nothing but itself anyway".into(),
                ));
            }
            "self-only" => parts.apart(Apart::SelfOnly, WhichTokens::Spikes),
            "forbid-sink" => parts.apart(Apart::Forbidden, WhichTokens::Sinks),
            "forbid-spike" => parts.apart(Apart::Forbidden, WhichTokens::Spikes),
            "drop-first" => Kind::Tokens(TokenChange::DropFirst),
            "repeat-first" => Kind::Tokens(TokenChange::RepeatFirst),
            "bos" => Kind::Tokens(TokenChange::Bos(parts.choice(&[("on", true), ("off", false)])?)),
            "random-tokens" => Kind::Tokens(TokenChange::Random),
            "window" => Kind::Window(parts.window()?),
            "quantize" => {
                let name = parts.value.take().unwrap_or("");
                let scheme = Scheme::parse(name).map_err(|reason| parts.wrong(reason))?;
                Kind::Quantise {
                    scheme,
                    block: parts.block.take(),
                    kept: parts.kept(&[("keep-spikes", WhichTokens::Spikes)])?,
                }
            }
            "cache" => {
                let bits = parts.choice(&[("int8", 8), ("int4", 4), ("int2", 2)])?;
                let kept = parts.kept(&[("keep-sinks", WhichTokens::Sinks), ("keep-spikes", WhichTokens::Spikes)])?;
                Kind::Cache { bits, block: parts.block.take(), kept }
            }
            _ => return Err(parts.unknown()),
        };
        parts.finish()?;
        Ok(Self { typed: typed.to_owned(), kind })
    }
}

impl<'a> Parts<'a> {
    fn new(typed: &'a str) -> Result<Self, SurgeryError> {
        let mut pieces = typed.split('+');
        let unmodified = pieces.next().unwrap_or_default();
        let modifiers = pieces.collect();
        let (head, places) =
            unmodified.split_once('@').map_or((unmodified, None), |(head, places)| (head, Some(places)));
        let (name, value) = head.split_once('=').map_or((head, None), |(name, value)| (name, Some(value)));
        let mut parts = Self { typed, name, value, block: None, tokens: None, channels: None, modifiers };
        for place in places.into_iter().flat_map(|places| places.split('@')) {
            let (key, value) = place.split_once('=').unwrap_or((place, ""));
            let number = |what: &str| -> Result<usize, SurgeryError> {
                value.parse().map_err(|_| parts.wrong(format!("@{key}={value} is not {what}; give a whole number")))
            };
            match key {
                "block" => parts.block = Some(number("a block")?),
                "position" if value == "all" => parts.tokens = Some(WhichTokens::All),
                "position" => parts.tokens = Some(WhichTokens::Position(number("a position or `all`")?)),
                "channels" => {
                    let list: Result<Vec<usize>, _> = value.split(',').map(str::parse).collect();
                    let list = list.map_err(|_| {
                        parts
                            .wrong(format!("@channels={value} is not a list of channels; give numbers such as 507,247"))
                    })?;
                    parts.channels = Some(list);
                }
                _ => {
                    return Err(
                        parts.wrong(format!("@{place} is not a place; there are @block=, @position= and @channels="))
                    );
                }
            }
        }
        Ok(parts)
    }

    fn wrong(&self, reason: String) -> SurgeryError {
        SurgeryError::Operation { operation: self.typed.to_owned(), reason }
    }

    fn unknown(&self) -> SurgeryError {
        let hint = match meant(self.name) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("there are {}", FORMS.map(|form| form.typed).join(", ")),
        };
        self.wrong(format!("there is no operation {:?}; {hint}", self.name))
    }

    fn number<T: FromStr>(&mut self, what: &str, example: &str) -> Result<T, SurgeryError> {
        let value = self.value.take();
        value.and_then(|value| value.parse().ok()).ok_or_else(|| self.wrong(format!("needs {what}, as in {example}")))
    }

    fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, SurgeryError> {
        let value = self.value.take().unwrap_or("");
        choices.iter().find(|(name, _)| *name == value).map(|choice| choice.1).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|choice| format!("{}={}", self.name, choice.0)).collect();
            self.wrong(format!("needs a value: {}", names.join(" or ")))
        })
    }

    fn take_tokens(&mut self, usual: WhichTokens) -> WhichTokens {
        self.tokens.take().unwrap_or(usual)
    }

    fn spikes(&mut self, change: SpikeChange) -> Result<Kind, SurgeryError> {
        if self.channels.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.wrong("@channels names none".into()));
        }
        let (block, channels) = (self.block.take(), self.channels.take());
        Ok(Kind::Spikes { change, block, tokens: self.take_tokens(WhichTokens::Spikes), channels })
    }

    fn apart(&mut self, apart: Apart, usual: WhichTokens) -> Kind {
        Kind::Apart { apart, block: self.block.take(), tokens: self.take_tokens(usual) }
    }

    fn values(&mut self, usual: WhichTokens) -> Result<Kind, SurgeryError> {
        let change = self.choice(&[("zero", ValueChange::Zero), ("mean", ValueChange::Mean)])?;
        Ok(Kind::Value { change, block: self.block.take(), tokens: self.take_tokens(usual) })
    }

    /// The tokens that one of these modifiers keeps as they are.
    fn kept(&mut self, allowed: &[(&str, WhichTokens)]) -> Result<Option<WhichTokens>, SurgeryError> {
        let names = allowed.iter().map(|(name, _)| format!("+{name}")).collect::<Vec<_>>().join(" or ");
        let modifiers = std::mem::take(&mut self.modifiers);
        match modifiers[..] {
            [] if self.tokens.is_some() => Err(self.wrong(format!("@position says which tokens to keep; add {names}"))),
            [] => Ok(None),
            [modifier] => match allowed.iter().find(|(name, _)| *name == modifier) {
                Some(&(_, usual)) => Ok(Some(self.take_tokens(usual))),
                None => Err(self.wrong(format!("+{modifier} cannot be added, only {names}"))),
            },
            _ => Err(self.wrong(format!("takes one of {names}"))),
        }
    }

    fn window(&mut self) -> Result<Window, SurgeryError> {
        let width = self.number("a width", "window=256+sinks=4")?;
        if width == 0 {
            return Err(self.wrong("a window of 0 shows a query nothing; the least is 1, the query itself".into()));
        }
        let mut window = Window { width, sinks: 0, original_positions: false };
        for modifier in std::mem::take(&mut self.modifiers) {
            match modifier.split_once('=') {
                Some(("sinks", count)) => {
                    window.sinks =
                        count.parse().map_err(|_| self.wrong(format!("+sinks={count} is not a number of keys")))?;
                }
                None if modifier == "original-positions" => window.original_positions = true,
                _ => return Err(self.wrong(format!("+{modifier} is neither +sinks=S nor +original-positions"))),
            }
        }
        if window.original_positions && window.sinks == 0 {
            return Err(self.wrong("+original-positions is about sinks; add +sinks=S".into()));
        }
        Ok(window)
    }

    /// Nothing may be left over.
    fn finish(self) -> Result<(), SurgeryError> {
        let left = [
            (self.value.is_some(), "a value"),
            (self.block.is_some(), "@block"),
            (self.tokens.is_some(), "@position"),
            (self.channels.is_some(), "@channels"),
            (!self.modifiers.is_empty(), "a modifier"),
        ];
        match left.iter().find(|(is_left, _)| *is_left) {
            Some((_, what)) => Err(self.wrong(format!("takes no {}", what.trim_start_matches("a ")))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(typed: &str) -> Kind {
        let operation: Operation = typed.parse().expect(typed);
        assert_eq!(operation.typed, typed);
        operation.kind
    }

    #[test]
    fn operations_mean_what_they_say() {
        let usual = |change| Kind::Spikes { change, block: None, tokens: WhichTokens::Spikes, channels: None };
        assert_eq!(kind("zero-spikes"), usual(SpikeChange::Zero));
        assert_eq!(kind("mean-spikes"), usual(SpikeChange::Mean));
        assert_eq!(kind("scale-spikes=-0.5"), usual(SpikeChange::Scale(-0.5)));
        let elsewhere = Kind::Spikes {
            change: SpikeChange::ZeroRescale,
            block: Some(24),
            tokens: WhichTokens::Position(3),
            channels: Some(vec![507, 14]),
        };
        assert_eq!(kind("zero-rescale-spikes@position=3@channels=507,14@block=24"), elsewhere);
        assert_eq!(kind("skip-block=7"), Kind::SkipBlock { block: 7, tokens: WhichTokens::Spikes });
        assert_eq!(kind("skip-head=12.3"), Kind::SkipHead { layer: 12, head: 3, tokens: WhichTokens::All });
        let at = WhichTokens::Position(0);
        assert_eq!(kind("skip-head=0.11@position=0"), Kind::SkipHead { layer: 0, head: 11, tokens: at });
        assert_eq!(kind("skip-block=7@position=all"), Kind::SkipBlock { block: 7, tokens: WhichTokens::All });
        let value = |change, block, tokens| Kind::Value { change, block, tokens };
        let placed = value(ValueChange::Mean, Some(3), WhichTokens::Position(0));
        assert_eq!(kind("sink-value=mean@block=3@position=0"), placed);
        assert_eq!(kind("spike-value=mean@block=3@position=0"), placed);
        assert_eq!(kind("sink-value=zero"), value(ValueChange::Zero, None, WhichTokens::Sinks));
        assert_eq!(kind("spike-value=zero"), value(ValueChange::Zero, None, WhichTokens::Spikes));
        let apart = |apart, block, tokens| Kind::Apart { apart, block, tokens };
        assert_eq!(kind("self-only@position=5"), apart(Apart::SelfOnly, None, WhichTokens::Position(5)));
        assert_eq!(kind("forbid-sink"), apart(Apart::Forbidden, None, WhichTokens::Sinks));
        assert_eq!(kind("forbid-spike"), apart(Apart::Forbidden, None, WhichTokens::Spikes));
        assert_eq!(kind("forbid-sink@block=3@position=0"), apart(Apart::Forbidden, Some(3), WhichTokens::Position(0)));
        let window = |sinks, original_positions| Kind::Window(Window { width: 256, sinks, original_positions });
        assert_eq!(kind("window=256"), window(0, false));
        assert_eq!(kind("window=256+sinks=4"), window(4, false));
        assert_eq!(kind("window=256+original-positions+sinks=4"), window(4, true));
        let scheme = |name| Scheme::parse(name).expect("a scheme");
        let quantise = |name, block, kept| Kind::Quantise { scheme: scheme(name), block, kept };
        assert_eq!(kind("quantize=w4-g32"), quantise("w4-g32", None, None));
        assert_eq!(kind("quantize=a8-tensor+keep-spikes"), quantise("a8-tensor", None, Some(WhichTokens::Spikes)));
        let first = Some(WhichTokens::Position(0));
        assert_eq!(kind("quantize=fp8-e4m3@block=4@position=0+keep-spikes"), quantise("fp8-e4m3", Some(4), first));
        assert_eq!(kind("cache=int4"), Kind::Cache { bits: 4, block: None, kept: None });
        let cache = |kept| Kind::Cache { bits: 2, block: Some(3), kept };
        assert_eq!(kind("cache=int2@block=3+keep-sinks"), cache(Some(WhichTokens::Sinks)));
        assert_eq!(kind("cache=int2@block=3+keep-spikes"), cache(Some(WhichTokens::Spikes)));
        assert_eq!(kind("bos=on"), Kind::Tokens(TokenChange::Bos(true)));
        assert_eq!(kind("random-tokens"), Kind::Tokens(TokenChange::Random));
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_would() {
        for (typed, part) in [
            ("zero-spike", "did you mean zero-spikes?"),
            ("skip-blocks=3", "did you mean skip-block=B?"),
            ("operate", "there are zero-spikes, mean-spikes"),
            ("", "there is no operation \"\""),
            ("scale-spikes", "needs a factor, as in scale-spikes=0.5"),
            ("scale-spikes=two", "needs a factor"),
            ("scale-spikes=inf", "not a finite factor"),
            ("skip-head", "needs a layer and a head"),
            ("skip-head=3", "needs a layer and a head"),
            ("skip-head=3.x", "as in skip-head=12.3"),
            ("skip-head=3.1@block=4", "takes no @block"),
            ("skip-block", "needs a block"),
            ("skip-block=3@block=4", "names its block already"),
            ("sink-value", "sink-value=zero or sink-value=mean"),
            ("self-only", "needs a token, as in self-only@position=5"),
            ("forbid-sinks", "did you mean forbid-sink?"),
            ("spike-value", "spike-value=zero or spike-value=mean"),
            ("window", "needs a width, as in window=256+sinks=4"),
            ("window=0", "a window of 0 shows a query nothing"),
            ("window=8+sinks=many", "+sinks=many is not a number of keys"),
            ("window=8+sink=4", "+sink=4 is neither"),
            ("window=8+original-positions", "add +sinks=S"),
            ("window=8@block=3", "takes no @block"),
            ("drop-first+sinks=4", "takes no modifier"),
            ("bos=perhaps", "bos=on or bos=off"),
            ("drop-first@position=3", "takes no @position"),
            ("zero-spikes=3", "takes no value"),
            ("skip-block=3@channels=4", "takes no @channels"),
            ("zero-spikes@block=last", "@block=last is not a block"),
            ("zero-spikes@position=first", "@position=first is not a position or `all`"),
            ("zero-spikes@channels=", "not a list of channels"),
            ("zero-spikes@head=3", "@head=3 is not a place"),
            ("quantise=w8", "did you mean quantize=SCHEME?"),
            ("quantize", "there is no scheme \"\"; there are w8a8-tensor"),
            ("quantize=w5", "there is no scheme \"w5\"; there are w8a8-tensor"),
            ("quantize=w4-g0", "a group of 0 inputs"),
            ("quantize=w4-gx", "\"x\" is not a number of inputs"),
            ("quantize=w8+keep-sinks", "+keep-sinks cannot be added, only +keep-spikes"),
            ("quantize=w8@position=0", "add +keep-spikes"),
            ("quantize=w8@channels=0", "takes no @channels"),
            ("cache=int3", "cache=int8 or cache=int4 or cache=int2"),
            ("cache=int8+keep-all", "+keep-all cannot be added, only +keep-sinks or +keep-spikes"),
            ("cache=int8+keep-sinks+keep-spikes", "takes one of +keep-sinks or +keep-spikes"),
            ("cache=int8@position=0", "add +keep-sinks or +keep-spikes"),
        ] {
            let message = typed.parse::<Operation>().expect_err(typed).to_string();
            assert!(message.starts_with(&format!("{typed}: ")) && message.contains(part), "{message}");
        }
    }
}
