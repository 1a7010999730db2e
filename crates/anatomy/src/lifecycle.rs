//! The life cycle of the largest channels over depth: rise, plateau, fall (Fig. 1, Table 1).

use std::collections::BTreeSet;

use crate::magnitude::TopChannels;
use crate::residual::ResidualTap;
use crate::results::{BlockKind, BlockLifecycle, Lifecycle, OutputLifecycle, ResidualLifecycle, Stage, TopChannel};
use crate::tokens::Tokens;

/// What the tap saw, block by block, and the step blocks of all stages.
pub fn lifecycle(tap: &ResidualTap, stages: &[Stage], tokens: Tokens<'_>) -> Lifecycle {
    let union = |blocks: fn(&Stage) -> &Vec<usize>| -> Vec<usize> {
        stages.iter().flat_map(blocks).copied().collect::<BTreeSet<_>>().into_iter().collect()
    };
    Lifecycle {
        blocks: tap.blocks().map(|block| block_lifecycle(tap, block, tokens)).collect(),
        step_up: union(|stage| &stage.step_up),
        step_down: union(|stage| &stage.step_down),
    }
}

fn block_lifecycle(tap: &ResidualTap, block: usize, tokens: Tokens<'_>) -> BlockLifecycle {
    let kind = match block {
        0 => BlockKind::Embedding,
        odd if odd % 2 == 1 => BlockKind::Attention,
        _ => BlockKind::FeedForward,
    };
    BlockLifecycle {
        block,
        kind,
        residual: ResidualLifecycle {
            top: top_channels(tap.residual_top(block), tokens),
            largest_mean: tap.largest_mean(block),
            typical_token_largest: tap.typical_token_largest(block),
            median_abs: tap.median_abs(block),
            spike_tokens: tap.spike_tokens(block).len(),
            massive_tokens: tap.massive_tokens(block).len(),
        },
        output: (block > 0).then(|| OutputLifecycle { top: top_channels(tap.output_top(block), tokens) }),
    }
}

fn top_channels(top: &TopChannels, tokens: Tokens<'_>) -> Vec<TopChannel> {
    let named = top.extremes().iter().map(|extreme| {
        let (sequence, position) = tokens.place(extreme.token);
        let (channel, value) = (extreme.channel, extreme.value);
        TopChannel { channel, value, sequence, position, token: tokens.text(extreme.token) }
    });
    named.collect()
}
