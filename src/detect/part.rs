//! Where in a network's outputs a head finds its numbers.

use crate::error::{Error, Result};
use crate::nets::convnet::program::Shape;
use serde::{Deserialize, Serialize};

/// An output of a network: `data` is `[height][width][channels]`, and each pixel is a *place* where an object may be.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    /// Its shape.
    pub shape: Shape,
    /// Its elements.
    pub data: &'a [f32],
}

/// All outputs of a network, by position.
pub type Maps<'m, 'a> = &'m dyn Fn(usize) -> Map<'a>;

/// Part of an output, from a place and a channel on. Several parts may share one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The position among the network's outputs.
    pub output: usize,
    /// The first place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub place: usize,
    /// The first channel.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub channel: usize,
    /// Whether the output is the other way round: its channels are the places, and its pixels are the channels.
    #[serde(default, skip_serializing_if = "is_false")]
    pub transposed: bool,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

pub(super) fn is_false(b: &bool) -> bool {
    !b
}

impl Part {
    /// A whole output.
    pub const fn of(output: usize) -> Self {
        Self { output, place: 0, channel: 0, transposed: false }
    }

    /// From this place on.
    pub const fn from_place(self, place: usize) -> Self {
        Self { place, ..self }
    }

    /// From this channel on.
    pub const fn from_channel(self, channel: usize) -> Self {
        Self { channel, ..self }
    }

    /// Places and channels of the whole output.
    pub(super) fn extent(self, shapes: &[Shape]) -> Result<(usize, usize)> {
        let shape = shapes.get(self.output).ok_or_else(|| {
            Error::format(format!("the head reads output {}, expected one of {}", self.output, shapes.len()))
        })?;
        Ok(if self.transposed { (shape.c, shape.pixels()) } else { (shape.pixels(), shape.c) })
    }

    /// The channels from here up to the next of the `others` in the same output, or to its end.
    pub(super) fn room(self, others: impl IntoIterator<Item = Part>, shapes: &[Shape]) -> Option<usize> {
        let behind = others.into_iter().filter(|other| other.output == self.output && other.channel > self.channel);
        let end = behind.map(|other| other.channel).min().or_else(|| Some(self.extent(shapes).ok()?.1));
        end?.checked_sub(self.channel)
    }

    /// Checks that there are this many places and channels from here on.
    pub(super) fn check(self, shapes: &[Shape], places: usize, channels: usize) -> Result<()> {
        let (has_places, has_channels) = self.extent(shapes)?;
        let fits = |from: usize, len: usize, has: usize| from.checked_add(len).is_some_and(|end| end <= has);
        if fits(self.place, places, has_places) && fits(self.channel, channels, has_channels) {
            return Ok(());
        }
        let Self { output, place, channel, .. } = self;
        Err(Error::format(format!(
            "the head reads {places} places from {place} and {channels} channels from {channel} of output {output}, \
             which has {has_places} places of {has_channels} channels"
        )))
    }

    /// The part's elements. What is read of them must have been [checked](Self::check).
    pub(super) fn view<'a>(self, maps: Maps<'_, 'a>) -> View<'a> {
        let Map { shape, data } = maps(self.output);
        let (place, channel) = if self.transposed { (1, shape.c) } else { (shape.c, 1) };
        View { data: &data[self.place * place + self.channel * channel..], place, channel }
    }
}

/// Numbers by place and channel.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    /// From one place to the next.
    place: usize,
    /// From one channel to the next.
    channel: usize,
}

/// How many places are looked at together where the channels of one are not side by side.
const BLOCK: usize = 128;

impl View<'_> {
    pub(super) fn get(&self, place: usize, channel: usize) -> f32 {
        self.data[place * self.place + channel * self.channel]
    }

    /// The first four channels of a place.
    pub(super) fn four(&self, place: usize) -> [f32; 4] {
        std::array::from_fn(|channel| self.get(place, channel))
    }

    /// The greatest channel of a place and its number; the first one of equals. NaN is never the greatest.
    pub(super) fn best(&self, place: usize, channels: usize) -> (usize, f32) {
        let all = (0..channels).map(|channel| (channel, self.get(place, channel)));
        all.fold((0, f32::NEG_INFINITY), |best, now| if now.1 > best.1 { now } else { best })
    }

    /// Visits each place that has a channel above `floor`: all those channels, or with `every` unset the greatest only.
    pub(super) fn above(
        &self,
        places: usize,
        channels: usize,
        floor: f32,
        every: bool,
        mut visit: impl FnMut(usize, usize, f32),
    ) {
        let mut look = |place: usize| {
            if every {
                let all = (0..channels).map(|channel| (channel, self.get(place, channel)));
                all.filter(|(_, x)| *x > floor).for_each(|(channel, x)| visit(place, channel, x));
            } else {
                let (channel, x) = self.best(place, channels);
                visit(place, channel, x);
            }
        };
        if self.channel == 1 {
            // Without an early end, so that many are compared at once: most places have nothing.
            let any = |row: &[f32]| row.iter().fold(false, |any, x| any | (*x > floor));
            let rows = (0..places).filter(|place| any(&self.data[place * self.place..][..channels]));
            rows.for_each(&mut look);
            return;
        }
        for first in (0..places).step_by(BLOCK) {
            let block = BLOCK.min(places - first);
            let mut any = [false; BLOCK];
            for channel in 0..channels {
                let start = first * self.place + channel * self.channel;
                let lanes = self.data[start..].iter().step_by(self.place).take(block);
                any.iter_mut().zip(lanes).for_each(|(any, x)| *any |= *x > floor);
            }
            (0..block).filter(|lane| any[*lane]).for_each(|lane| look(first + lane));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 300 places of 3 channels, numbered, with NaN here and there.
    fn numbers() -> Vec<f32> {
        (0..900).map(|i| if i % 7 == 3 { f32::NAN } else { ((i * 37) % 101) as f32 }).collect()
    }

    fn above(part: Part, shape: Shape, data: &[f32], every: bool) -> Vec<(usize, usize, f32)> {
        let mut seen = Vec::new();
        let map = Map { shape, data };
        part.view(&|_| map).above(300, 3, 80.0, every, |place, channel, x| seen.push((place, channel, x)));
        seen
    }

    #[test]
    fn both_ways_round_see_the_same() {
        let data = numbers();
        let turned: Vec<f32> = (0..900).map(|i| data[i % 300 * 3 + i / 300]).collect();
        for every in [false, true] {
            let rows = above(Part::of(0), Shape::new(15, 20, 3), &data, every);
            let columns = above(Part { transposed: true, ..Part::of(0) }, Shape::new(1, 3, 300), &turned, every);
            assert_eq!(rows, columns);
            assert!(
                rows.len() > 50 && rows.iter().all(|(place, channel, x)| *x > 80.0 && data[place * 3 + channel] == *x)
            );
        }
    }

    #[test]
    fn parts_lie_inside_of_their_outputs() {
        let shapes = [Shape::new(2, 3, 5)];
        let part = Part::of(0).from_place(2).from_channel(1);
        assert!(part.check(&shapes, 4, 4).is_ok());
        for (places, channels) in [(5, 4), (4, 5), (usize::MAX, 1), (1, usize::MAX)] {
            assert!(part.check(&shapes, places, channels).is_err());
        }
        let message = Part::of(1).check(&shapes, 1, 1).unwrap_err().to_string();
        assert_eq!(message, "the head reads output 1, expected one of 1");
    }
}
