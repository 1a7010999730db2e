//! What people read.

use sinkscope_anatomy::results::Anatomy;
use sinkscope_report::terminal::{self, Style};
use unicode_width::UnicodeWidthStr;

use crate::sample;

fn render(anatomy: Anatomy, width: usize) -> String {
    terminal::anatomy(&sample::envelope(anatomy), &Style::new(width, false))
}

#[test]
fn everything() {
    insta::assert_snapshot!(render(sample::anatomy(), 100));
}

#[test]
fn on_a_narrow_terminal() {
    insta::assert_snapshot!(render(sample::anatomy(), 60));
}

#[test]
fn nothing_found() {
    insta::assert_snapshot!(render(sample::calm(), 100));
}

#[test]
fn nothing_asked_for() {
    insta::assert_snapshot!(render(sample::nothing(), 100));
}

#[test]
fn spikes_away_from_the_first_token() {
    let mut anatomy = sample::anatomy();
    anatomy.lifecycle = None;
    anatomy.sinks = None;
    if let Some(spikes) = &mut anatomy.spikes {
        spikes.stages.truncate(1);
        spikes.stages[0].share_at_position_0 = 0.25;
        spikes.stages[0].step_down.clear();
    }
    insta::assert_snapshot!(render(anatomy, 100));
}

#[test]
fn no_line_is_wider_than_asked() {
    for width in [60, 72, 80, 100, 120] {
        for anatomy in [sample::anatomy(), sample::calm()] {
            for line in render(anatomy, width).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn no_control_character_comes_through() {
    for anatomy in [sample::anatomy(), sample::calm()] {
        let text = render(anatomy, 100);
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text}");
    }
}

#[test]
fn colour_is_emphasis_alone() {
    let envelope = sample::envelope(sample::anatomy());
    let coloured = terminal::anatomy(&envelope, &Style::new(100, true));
    assert_ne!(coloured, render(sample::anatomy(), 100));
    let plain = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m"].iter().fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(plain, render(sample::anatomy(), 100));
}

#[test]
fn many_heads_share_marks() {
    let mut anatomy = sample::nothing();
    let mut sinks = sample::sinks();
    for row in &mut sinks.heads {
        *row = (0..128).map(|head| f64::from(head % 3) / 3.0).collect();
    }
    anatomy.sinks = Some(sinks);
    let text = render(anatomy, 80);
    assert!(text.contains("the strongest of 4 heads"), "{text}");
    assert!(text.lines().all(|line| line.width() <= 80), "{text}");
}

fn comparison(width: usize) -> String {
    let envelope = sample::envelope(sample::comparison());
    terminal::operate(&envelope, &Style::new(width, false))
}

#[test]
fn operations() {
    insta::assert_snapshot!(comparison(100));
}

#[test]
fn operations_fit_and_move_no_cursor() {
    for width in [60, 80, 120] {
        let text = comparison(width);
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text}");
    }
}
