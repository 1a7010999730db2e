//! From what users type to an [`Operation`].

use std::str::FromStr;

use sinkscope_model::pass::Window;
use sinkscope_model::spelling::nearest;

use super::parts::{Kept, Parts};
use super::{Apart, FORMS, Kind, Operation, Place, SpikeChange, TokenChange, ValueChange, WhichLayers, WhichTokens};
use crate::error::SurgeryError;
use crate::quantise::{Activations, CacheFormat, Scheme};

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

impl FromStr for Operation {
    type Err = SurgeryError;

    fn from_str(typed: &str) -> Result<Self, SurgeryError> {
        let mut parts = Parts::new(typed)?;
        let mut sweep = None;
        let kind = match parts.name {
            "zero-spikes" => parts.spikes(SpikeChange::Zero),
            "mean-spikes" => parts.spikes(SpikeChange::Mean),
            "zero-rescale-spikes" => parts.spikes(SpikeChange::ZeroRescale),
            "scale-spikes" => {
                let factor: f32 = parts.number("a factor", "scale-spikes=0.5")?;
                if !factor.is_finite() {
                    return Err(parts.wrong(format!("{factor} is not a finite factor")));
                }
                parts.spikes(SpikeChange::Scale(factor))
            }
            "skip-block" => {
                if parts.places.is_some() {
                    return Err(parts.wrong("names its block already; @block says nothing more".into()));
                }
                let Some(places) = parts.value.take().and_then(Place::blocks) else {
                    return Err(parts.wrong("needs a block, as in skip-block=24, or a tensor's name".into()));
                };
                Kind::SkipBlock { places, tokens: parts.take_tokens(WhichTokens::Spikes) }
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
                let mut scheme = Scheme::parse(name).map_err(|reason| parts.wrong(reason))?;
                parts.allow(&["keep-spikes", "keep=P", "except=NAMES", "only=NAMES", "static"])?;
                scheme.fixed = parts.flag("static")?;
                if scheme.fixed && !scheme.activations.is_some_and(Activations::of_sequence) {
                    let reason = "+static is about a scale that all inputs share, as in w8a8-tensor or fp8-e4m3";
                    return Err(parts.wrong(reason.to_owned()));
                }
                if scheme.fixed && scheme.rotate {
                    return Err(parts.wrong("the scales of rotated inputs are not known beforehand".to_owned()));
                }
                let layers = WhichLayers {
                    places: parts.places.take(),
                    only: parts.names("only")?,
                    except: parts.names("except")?,
                };
                let kept = parts.kept(&[("keep-spikes", WhichTokens::Spikes)])?;
                sweep = kept.sweep;
                Kind::Quantise { scheme, layers, kept: kept.tokens }
            }
            "cache" => {
                let Some((keys, values)) = CacheFormat::parse(parts.value.take().unwrap_or("")) else {
                    let reason = format!(
                        "needs a format, such as cache=int4 or cache=k:int4-channel,v:int8: {}",
                        CacheFormat::NAMES
                    );
                    return Err(parts.wrong(reason));
                };
                parts.allow(&["keep-sinks", "keep-spikes", "keep=P"])?;
                let flags = [("keep-sinks", WhichTokens::Sinks), ("keep-spikes", WhichTokens::Spikes)];
                let Kept { tokens: kept, sweep: steps } = parts.kept(&flags)?;
                sweep = steps;
                Kind::Cache { keys, values, places: parts.places.take(), kept }
            }
            _ => return Err(parts.unknown()),
        };
        parts.finish()?;
        Ok(Self { typed: typed.to_owned(), kind, sweep })
    }
}

impl Parts<'_> {
    fn unknown(&self) -> SurgeryError {
        let hint = match meant(self.name) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("there are {}", FORMS.map(|form| form.typed).join(", ")),
        };
        self.wrong(format!("there is no operation {:?}; {hint}", self.name))
    }

    fn spikes(&mut self, change: SpikeChange) -> Kind {
        let (places, channels) = (self.places.take(), self.channels.take());
        Kind::Spikes { change, places, tokens: self.take_tokens(WhichTokens::Spikes), channels }
    }

    fn apart(&mut self, apart: Apart, usual: WhichTokens) -> Kind {
        Kind::Apart { apart, places: self.places.take(), tokens: self.take_tokens(usual) }
    }

    fn values(&mut self, usual: WhichTokens) -> Result<Kind, SurgeryError> {
        let change = self.choice(&[("zero", ValueChange::Zero), ("mean", ValueChange::Mean)])?;
        Ok(Kind::Value { change, places: self.places.take(), tokens: self.take_tokens(usual) })
    }

    fn window(&mut self) -> Result<Window, SurgeryError> {
        let width = self.number("a width", "window=256+sinks=4")?;
        if width == 0 {
            return Err(self.wrong("a window of 0 shows a query nothing; the least is 1, the query itself".into()));
        }
        self.allow(&["sinks=S", "original-positions"])?;
        let sinks = match self.modifier("sinks", "a number of keys")? {
            Some(count) => count.parse().map_err(|_| self.wrong(format!("+sinks={count} is not a number of keys")))?,
            None => 0,
        };
        let original_positions = self.flag("original-positions")?;
        if original_positions && sinks == 0 {
            return Err(self.wrong("+original-positions is about sinks; add +sinks=S".into()));
        }
        Ok(Window { width, sinks, original_positions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinkscope_kernels::quantise::Grid;

    use crate::operation::Numbers;

    fn kind(typed: &str) -> Kind {
        let operation: Operation = typed.parse().expect(typed);
        assert_eq!(operation.typed, typed);
        operation.kind
    }

    #[test]
    fn operations_mean_what_they_say() {
        let usual = |change| Kind::Spikes { change, places: None, tokens: WhichTokens::Spikes, channels: None };
        let at = |list: &str| WhichTokens::Positions(Numbers::parse(list).expect("numbers"));
        let blocks = |list: &str| Place::blocks(list);
        assert_eq!(kind("zero-spikes"), usual(SpikeChange::Zero));
        assert_eq!(kind("mean-spikes"), usual(SpikeChange::Mean));
        assert_eq!(kind("scale-spikes=-0.5"), usual(SpikeChange::Scale(-0.5)));
        let elsewhere = Kind::Spikes {
            change: SpikeChange::ZeroRescale,
            places: blocks("24"),
            tokens: at("3"),
            channels: Numbers::parse("507,14"),
        };
        assert_eq!(kind("zero-rescale-spikes@position=3@channels=507,14@block=24"), elsewhere);
        assert_eq!(
            kind("skip-block=7"),
            Kind::SkipBlock { places: blocks("7").expect("one"), tokens: WhichTokens::Spikes }
        );
        assert_eq!(kind("skip-head=12.3"), Kind::SkipHead { layer: 12, head: 3, tokens: WhichTokens::All });
        assert_eq!(kind("skip-head=0.11@position=0"), Kind::SkipHead { layer: 0, head: 11, tokens: at("0") });
        let skipped = Kind::SkipBlock { places: blocks("7,9-11").expect("a list"), tokens: WhichTokens::All };
        assert_eq!(kind("skip-block=7,9-11@position=all"), skipped);
        let value = |change, places, tokens| Kind::Value { change, places, tokens };
        let placed = value(ValueChange::Mean, blocks("3"), at("0"));
        assert_eq!(kind("sink-value=mean@block=3@position=0"), placed);
        assert_eq!(kind("spike-value=mean@block=3@position=0"), placed);
        assert_eq!(kind("sink-value=zero"), value(ValueChange::Zero, None, WhichTokens::Sinks));
        assert_eq!(kind("spike-value=zero"), value(ValueChange::Zero, None, WhichTokens::Spikes));
        let apart = |apart, places, tokens| Kind::Apart { apart, places, tokens };
        assert_eq!(kind("self-only@position=5"), apart(Apart::SelfOnly, None, at("5")));
        assert_eq!(kind("forbid-sink"), apart(Apart::Forbidden, None, WhichTokens::Sinks));
        assert_eq!(kind("forbid-spike"), apart(Apart::Forbidden, None, WhichTokens::Spikes));
        assert_eq!(kind("forbid-sink@block=3@position=0"), apart(Apart::Forbidden, blocks("3"), at("0")));
        let window = |sinks, original_positions| Kind::Window(Window { width: 256, sinks, original_positions });
        assert_eq!(kind("window=256"), window(0, false));
        assert_eq!(kind("window=256+sinks=4"), window(4, false));
        assert_eq!(kind("window=256+original-positions+sinks=4"), window(4, true));
        let scheme = |name| Scheme::parse(name).expect("a scheme");
        let quantise = |name, layers, kept| Kind::Quantise { scheme: scheme(name), layers, kept };
        let all = WhichLayers::default;
        assert_eq!(kind("quantize=w4-g32"), quantise("w4-g32", all(), None));
        assert_eq!(kind("quantize=a8-tensor+keep-spikes"), quantise("a8-tensor", all(), Some(WhichTokens::Spikes)));
        let fourth = WhichLayers { places: blocks("4"), ..all() };
        for typed in
            ["quantize=fp8-e4m3@block=4@position=0+keep-spikes", "quantize=fp8-e4m3+keep-spikes@position=0@block=4"]
        {
            assert_eq!(kind(typed), quantise("fp8-e4m3", fourth.clone(), Some(at("0"))));
        }
        let named = |list| Place::named(list).ok();
        let chosen = WhichLayers {
            places: Place::layers("3-5"),
            only: named("mlp,layer=4,7"),
            except: named("model.layers.4.mlp.down_proj"),
        };
        let typed = "quantize=w8+except=model.layers.4.mlp.down_proj@layers=3-5+only=mlp,layer=4,7+keep=0-3,9";
        assert_eq!(kind(typed), quantise("w8", chosen, Some(at("0-3,9"))));
        let int = |bits| Some(CacheFormat { grid: Grid::Integer { bits }, by_channel: false });
        assert_eq!(kind("cache=int4"), Kind::Cache { keys: int(4), values: int(4), places: None, kept: None });
        assert_eq!(kind("cache=v:int3"), Kind::Cache { keys: None, values: int(3), places: None, kept: None });
        let by_channel = Some(CacheFormat { grid: Grid::E4m3, by_channel: true });
        let apart = Kind::Cache { keys: by_channel, values: int(8), places: None, kept: None };
        assert_eq!(kind("cache=v:int8,k:fp8-e4m3-channel"), apart);
        let cache = |kept| Kind::Cache { keys: int(2), values: int(2), places: blocks("3"), kept };
        assert_eq!(kind("cache=int2@block=3+keep-sinks"), cache(Some(WhichTokens::Sinks)));
        assert_eq!(kind("cache=int2+keep-spikes@block=3"), cache(Some(WhichTokens::Spikes)));
        assert_eq!(kind("cache=int2+keep=0-3@block=3"), cache(Some(at("0-3"))));
        assert_eq!(kind("bos=on"), Kind::Tokens(TokenChange::Bos(true)));
        assert_eq!(kind("random-tokens"), Kind::Tokens(TokenChange::Random));
    }

    #[test]
    fn a_sweep_is_a_run_for_every_number_of_tokens_kept() {
        let sweep: Operation = "cache=int4+keep=0..2@layer=1".parse().expect("a sweep");
        assert_eq!(sweep.sweep, Some(0..=2));
        let steps = sweep.steps();
        let typed = ["cache=int4@layer=1", "cache=int4+keep=0@layer=1", "cache=int4+keep=0-1@layer=1"];
        assert_eq!(steps, typed.map(|typed| typed.parse::<Operation>().expect("a step")));
        assert_eq!("cache=int4".parse::<Operation>().expect("one").steps().len(), 1);
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
            ("window=8+sink=4", "+sink cannot be added, only +sinks=S or +original-positions"),
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
            ("cache=int5", "needs a format, such as cache=int4 or cache=k:int4-channel,v:int8: int8, int4"),
            ("cache=k:int4,k:int8", "needs a format"),
            ("cache=q:int4", "needs a format"),
            ("quantize=w8a8-token+static", "+static is about a scale that all inputs share"),
            ("quantize=hadamard-w8a8-tensor+static", "not known beforehand"),
            ("quantize=hadamard-smooth-w8a8", "not rotated too"),
            ("quantize=a-int3", "there is no scheme \"a-int3\""),
            ("cache=int8+keep-all", "+keep-all cannot be added, only +keep-sinks or +keep-spikes"),
            ("cache=int8+keep-sinks+keep-spikes", "takes one of +keep-sinks or +keep-spikes or +keep=P"),
            ("cache=int8+keep=0+keep-spikes", "takes one of +keep-sinks or +keep-spikes or +keep=P"),
            ("cache=int8+keep", "+keep needs positions such as 0-3"),
            ("cache=int8+keep=3-1", "+keep=3-1 is not positions such as 0-3"),
            ("cache=int8+keep=8..0", "+keep=8..0 is not positions such as 0-3"),
            ("cache=int8+keep=0..999", "is more than 65 runs"),
            ("cache=int8+keep=0@position=1", "@position says nothing more"),
            ("cache=int8+keep-sinks=3", "+keep-sinks takes no value"),
            ("zero-spikes@block=3@layer=1", "a second place of its kind"),
            ("zero-spikes@position=3@positions=1", "a second place of its kind"),
            ("zero-spikes@layer=model.layers.3", "is not a layer"),
            ("window=8+sinks=1+sinks=2", "+sinks is given twice"),
            ("quantize=w8+except", "+except needs names: projections such as down_proj"),
            ("quantize=w8+only=3", "+only: \"3\" names no layers"),
            ("quantize=w8+except=head=3", "+except: \"head=3\" names no layers"),
            ("quantize=w8+exempt=down", "+exempt cannot be added, only +keep-spikes or +keep=P or +except=NAMES"),
            ("cache=int8@position=0", "add +keep-sinks or +keep-spikes"),
        ] {
            let message = typed.parse::<Operation>().expect_err(typed).to_string();
            assert!(message.starts_with(&format!("{typed}: ")) && message.contains(part), "{message}");
        }
    }
}
