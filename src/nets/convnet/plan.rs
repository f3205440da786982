//! Where values live while a program runs.
//!
//! Values that are never needed at the same time share a buffer. Concatenations, slices and reshapes cost nothing where
//! they can be arranged beforehand: maps that are put side by side are computed right into their places, and part of a
//! map is read from where it lies. That is why a map's pixels may lie further apart than it has channels.

use super::program::{Axis, Op, Program};
use std::collections::HashSet;

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which buffer.
    pub(super) buffer: usize,
    /// Its first element there.
    pub(super) offset: usize,
    /// Elements from one pixel to the next.
    pub(super) pixel: usize,
}

/// Where all values lie.
pub(super) struct Plan {
    /// One for each value. Values in bytes and values in f32 have buffers of their own, counted separately.
    pub(super) places: Vec<Place>,
    /// The elements of each buffer of f32.
    pub(super) floats: Vec<usize>,
    /// The elements of each buffer of bytes.
    pub(super) bytes: Vec<usize>,
    /// Whether an operation has nothing left to do, because its result is part of its input.
    pub(super) idle: Vec<bool>,
}

/// Values that lie in one piece of memory.
struct Group {
    members: Vec<usize>,
    len: usize,
    /// Elements from one pixel to the next of the value that the group was made for.
    pixel: usize,
}

struct Planner<'a> {
    program: &'a Program,
    /// The group of each value, and its place in there.
    places: Vec<Place>,
    groups: Vec<Group>,
    idle: Vec<bool>,
}

impl Plan {
    pub(super) fn new(program: &Program) -> Self {
        let mut planner = Planner { program, places: Vec::new(), groups: Vec::new(), idle: Vec::new() };
        planner.place_alone(0);
        for (i, op) in program.ops().iter().enumerate() {
            let part = planner.part_of_input(i, op);
            planner.idle.push(part.is_some());
            match part {
                Some(place) => {
                    planner.places.push(place);
                    planner.groups[place.buffer].members.push(i + 1);
                }
                None => planner.place_alone(i + 1),
            }
            if let Op::Concat { xs, axis } = op {
                planner.gather(i + 1, xs, *axis);
            }
        }
        planner.share_buffers()
    }

    /// Bytes of all buffers.
    pub(super) fn memory(&self) -> u64 {
        let [floats, bytes] = [&self.floats, &self.bytes].map(|lens| lens.iter().map(|&n| n as u64).sum::<u64>());
        4 * floats + bytes
    }
}

impl Planner<'_> {
    fn place_alone(&mut self, value: usize) {
        let shape = self.program.shapes()[value];
        self.places.push(Place { buffer: self.groups.len(), offset: 0, pixel: shape.c });
        self.groups.push(Group { members: vec![value], len: shape.len(), pixel: shape.c });
    }

    /// The place of an operation's result, if that is a part of its input as it lies.
    fn part_of_input(&self, i: usize, op: &Op) -> Option<Place> {
        let &[x] = &op.inputs()[..] else { return None };
        let (from, to) = (self.program.shapes()[x], self.program.shapes()[i + 1]);
        let place = self.places[x];
        if self.program.quants()[x] != self.program.quants()[i + 1] {
            return None;
        }
        match op {
            Op::Reshape { .. } if from.c == to.c => Some(place),
            Op::Reshape { .. } if place.pixel == from.c => Some(Place { pixel: to.c, ..place }),
            Op::Convert { .. } => Some(place),
            Op::Slice { axis, from: first, step: 1, .. } => {
                let skipped = match axis {
                    Axis::C => *first,
                    Axis::W if from.h == 1 => first * place.pixel,
                    Axis::W => return None,
                    Axis::H => first * from.w * place.pixel,
                };
                Some(Place { offset: place.offset + skipped, ..place })
            }
            _ => None,
        }
    }

    /// Moves maps that are put side by side into the place of the result, where that is possible.
    fn gather(&mut self, result: usize, xs: &[usize], axis: Axis) {
        let shape = self.program.shapes()[result];
        let groups: HashSet<_> = xs.iter().map(|&x| self.places[x].buffer).collect();
        // Rows put next to each other would lie in pieces; and what is needed twice has to be copied.
        if groups.len() < xs.len() || axis == Axis::W && shape.h > 1 {
            return;
        }
        let pixel = shape.c;
        let mut offset = 0;
        for &x in xs {
            let part = self.program.shapes()[x];
            if self.may_move(x, result) {
                self.shift(self.places[x].buffer, self.places[result].buffer, offset, pixel);
            }
            offset += match axis {
                Axis::C => part.c,
                _ => part.pixels() * pixel,
            };
        }
    }

    /// Whether the group of `x` may become part of the group of `result`.
    fn may_move(&self, x: usize, result: usize) -> bool {
        let (from, to) = (self.places[x].buffer, self.places[result].buffer);
        let group = &self.groups[from];
        let same_form = self.program.quants()[x] == self.program.quants()[result];
        let whole = self.places[x].offset == 0 && group.len == self.program.shapes()[x].len();
        // If pixels move apart, everything in the group has to have the same ones.
        let stays = self.program.shapes()[result].c == group.pixel;
        let uniform = group.members.iter().all(|&m| self.places[m].pixel == group.pixel);
        let made_here =
            group.members.iter().all(|&m| m > 0 && !matches!(self.program.ops()[m - 1], Op::Constant { .. }));
        same_form && whole && made_here && (stays || uniform) && !self.reads(from, to) && !self.reads(to, from)
    }

    /// Whether something in group `a` is computed from something in group `b`: they then must be different buffers.
    fn reads(&self, a: usize, b: usize) -> bool {
        self.groups[a].members.iter().filter(|&&m| m > 0 && !self.idle[m - 1]).any(|&m| {
            let op = &self.program.ops()[m - 1];
            // What is put side by side is copied or moved, as decided for each part.
            !matches!(op, Op::Concat { .. }) && op.inputs().iter().any(|&x| self.places[x].buffer == b)
        })
    }

    /// Moves all of a group into another one, `offset` elements from its start, with pixels `pixel` elements apart.
    fn shift(&mut self, from: usize, to: usize, offset: usize, pixel: usize) {
        let members = std::mem::take(&mut self.groups[from].members);
        for &member in &members {
            let Place { offset: at, pixel: apart, .. } = self.places[member];
            self.places[member] = if self.groups[from].pixel == pixel {
                Place { buffer: to, offset: offset + at, pixel: apart }
            } else {
                Place { buffer: to, offset: offset + at / apart * pixel + at % apart, pixel }
            };
        }
        self.groups[to].members.extend(members);
    }

    /// Gives groups that do not live at the same time the same buffer.
    fn share_buffers(mut self) -> Plan {
        let mut readers = vec![0; self.places.len()];
        for (i, op) in self.program.ops().iter().enumerate() {
            op.inputs().into_iter().for_each(|x| readers[x] = i + 1);
        }
        let mut lives: Vec<_> = (0..self.groups.len()).map(|g| (self.life(g, &readers), g)).collect();
        lives.retain(|&(_, g)| !self.groups[g].members.is_empty());
        lives.sort_by_key(|&((first, _), _)| first);
        // For f32 and for bytes: each buffer's length and the last operation that needs it.
        let mut buffers: [Vec<(usize, usize)>; 2] = Default::default();
        let mut assigned = vec![0; self.groups.len()];
        for ((first, last), g) in lives {
            let group = &self.groups[g];
            let buffers = &mut buffers[usize::from(self.program.quants()[group.members[0]].is_some())];
            let free = (0..buffers.len()).filter(|&b| buffers[b].1 < first);
            // The one that has to grow least; of those that need not grow, the smallest.
            let best = free.min_by_key(|&b| (group.len.saturating_sub(buffers[b].0), buffers[b].0));
            let buffer = best.unwrap_or_else(|| {
                buffers.push((0, 0));
                buffers.len() - 1
            });
            buffers[buffer] = (buffers[buffer].0.max(group.len), last);
            assigned[g] = buffer;
        }
        self.places.iter_mut().for_each(|place| place.buffer = assigned[place.buffer]);
        let [floats, bytes] = buffers.map(|buffers| buffers.into_iter().map(|(len, _)| len).collect());
        Plan { places: self.places, floats, bytes, idle: self.idle }
    }

    /// From which to which operation a group is needed; operation 0 stands for the input. `readers` has the last operation
    /// that reads each value, or 0.
    fn life(&self, group: usize, readers: &[usize]) -> (usize, usize) {
        let members = &self.groups[group].members;
        let (mut first, mut last) = (usize::MAX, 0);
        for &member in members {
            (first, last) = (first.min(member), last.max(member).max(readers[member]));
            let constant = member > 0 && matches!(self.program.ops()[member - 1], Op::Constant { .. });
            if constant {
                first = 0;
            }
            if constant || self.program.outputs().contains(&member) {
                last = usize::MAX;
            }
        }
        (first, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::convnet::program::{Activation, Sampling, Shape, Window};

    fn conv(x: usize, channels: usize) -> Op {
        let window = Window::new([1, 1]);
        Op::Conv { x, name: String::new(), channels, groups: 1, window, then: Activation::None }
    }

    fn plan(ops: Vec<Op>) -> (Program, Plan) {
        let last = ops.len();
        let program = Program::new(Shape::new(4, 6, 3), ops, vec![], vec![last]).unwrap();
        let plan = Plan::new(&program);
        (program, plan)
    }

    #[test]
    fn maps_are_computed_into_their_places() {
        let (_, plan) = plan(vec![conv(0, 8), conv(0, 4), Op::Concat { xs: vec![2, 1], axis: Axis::C }, conv(3, 5)]);
        let result = plan.places[3];
        assert_eq!(plan.places[2], result);
        assert_eq!(plan.places[1], Place { offset: result.offset + 4, ..result });
        assert_eq!(result.pixel, 12);
    }

    #[test]
    fn what_is_computed_from_its_neighbour_is_copied() {
        let (_, plan) = plan(vec![conv(0, 8), conv(1, 4), Op::Concat { xs: vec![1, 2], axis: Axis::C }]);
        assert_eq!(plan.places[1].buffer, plan.places[3].buffer);
        assert_ne!(plan.places[2].buffer, plan.places[3].buffer);
    }

    #[test]
    fn heads_are_flattened_and_joined_without_a_copy() {
        let small = Op::Resize { x: 0, size: [2, 3], sampling: Sampling::Nearest };
        let flat = |x, n| Op::Reshape { x, shape: Shape::new(1, n, 8) };
        let joined = Op::Concat { xs: vec![5, 6], axis: Axis::W };
        let (_, plan) = plan(vec![conv(0, 8), small, conv(2, 8), conv(2, 8), flat(1, 24), flat(3, 6), joined]);
        let result = plan.places[7];
        assert_eq!(plan.places[1], result);
        assert_eq!(plan.places[3], Place { offset: result.offset + 24 * 8, ..result });
        assert!(plan.idle[4] && plan.idle[5]);
    }

    #[test]
    fn slices_lie_in_their_map() {
        let slice = Op::Slice { x: 1, axis: Axis::C, from: 5, len: 3, step: 1 };
        let (_, plan) = plan(vec![conv(0, 8), slice, conv(2, 4)]);
        assert_eq!(plan.places[2], Place { offset: plan.places[1].offset + 5, ..plan.places[1] });
        assert!(plan.idle[1]);
    }

    #[test]
    fn buffers_are_used_again() {
        let (_, plan) = plan((0..20).map(|x| conv(x, 8)).collect());
        assert_eq!(plan.floats.len(), 2);
    }
}
