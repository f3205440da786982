//! Where the elements of a graph's tensor lie in a value of the program.
//!
//! A value is a row of numbers. A view cuts the row into *atoms*, whose sizes multiply to its length, and says which atoms
//! make up each axis of the tensor. Transposing and most reshaping change the view alone.

/// A tensor of the graph as it lies in a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The value.
    pub value: usize,
    /// Sizes of the atoms, in the value's row-major order. None is 1.
    pub atoms: Vec<usize>,
    /// The atoms of each axis, the slowest first. Each atom belongs to one axis.
    pub axes: Vec<Vec<usize>>,
}

impl View {
    /// A tensor of `dims` that lies in `value` with its axes in `order`.
    pub fn new(value: usize, dims: &[usize], order: &[usize]) -> Self {
        let mut view = Self { value, atoms: Vec::new(), axes: vec![Vec::new(); dims.len()] };
        for &axis in order.iter().filter(|&&axis| dims[axis] > 1) {
            view.axes[axis].push(view.atoms.len());
            view.atoms.push(dims[axis]);
        }
        view
    }

    /// Size of an axis.
    pub fn dim(&self, axis: usize) -> usize {
        self.axes[axis].iter().map(|&atom| self.atoms[atom]).product()
    }

    /// Sizes of all axes.
    pub fn dims(&self) -> Vec<usize> {
        (0..self.axes.len()).map(|axis| self.dim(axis)).collect()
    }

    /// The axes of more than one element, in the order in which they lie.
    pub fn axis_order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.axes.len()).filter(|&axis| !self.axes[axis].is_empty()).collect();
        order.sort_by_key(|&axis| self.axes[axis].iter().min());
        order
    }

    /// The atoms of these axes, one axis after the other.
    pub fn atoms_of(&self, axes: &[usize]) -> Vec<usize> {
        axes.iter().flat_map(|&axis| self.axes[axis].iter().copied()).collect()
    }

    /// The axes in another order.
    pub fn permuted(&self, order: &[usize]) -> Self {
        Self { axes: order.iter().map(|&axis| self.axes[axis].clone()).collect(), ..self.clone() }
    }

    /// Joins atoms that lie side by side, and follow each other in an axis.
    pub fn joined(mut self) -> Self {
        let mut atom = 0;
        while atom + 1 < self.atoms.len() {
            let follows = |axis: &Vec<usize>| axis.windows(2).any(|pair| pair == [atom, atom + 1]);
            if !self.axes.iter().any(follows) {
                atom += 1;
                continue;
            }
            self.atoms[atom] *= self.atoms.remove(atom + 1);
            for axis in &mut self.axes {
                axis.retain(|&a| a != atom + 1);
                axis.iter_mut().filter(|a| **a > atom).for_each(|a| *a -= 1);
            }
        }
        self
    }

    /// The same elements with other axes, unless an atom would have to be cut at no whole number.
    pub fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        let whole = self.clone().joined();
        let mut parts: Vec<Vec<usize>> = vec![Vec::new(); whole.atoms.len()];
        let mut axes: Vec<Vec<(usize, usize)>> = Vec::with_capacity(dims.len());
        let mut rest = whole.axes.iter().flatten().map(|&atom| (atom, whole.atoms[atom]));
        let mut next = rest.next();
        for &dim in dims {
            let (mut open, mut axis) = (dim, Vec::new());
            while open > 1 {
                let (atom, size) = next?;
                let taken = if open.is_multiple_of(size) {
                    next = rest.next();
                    size
                } else if size.is_multiple_of(open) {
                    next = Some((atom, size / open));
                    open
                } else {
                    return None;
                };
                axis.push((atom, parts[atom].len()));
                parts[atom].push(taken);
                open /= taken;
            }
            axes.push(axis);
        }
        if next.is_some() {
            return None;
        }
        let first: Vec<usize> = (0..parts.len()).map(|atom| parts[..atom].iter().map(Vec::len).sum()).collect();
        let number = |axis: Vec<(usize, usize)>| axis.into_iter().map(|(atom, part)| first[atom] + part).collect();
        let axes = axes.into_iter().map(number).collect();
        Some(Self { value: whole.value, atoms: parts.concat(), axes }.joined())
    }

    /// Cuts an atom into several whose sizes multiply to its own.
    pub fn cut(&mut self, atom: usize, sizes: &[usize]) {
        self.atoms.splice(atom..=atom, sizes.iter().copied());
        let more = sizes.len() - 1;
        for axis in &mut self.axes {
            axis.iter_mut().filter(|a| **a > atom).for_each(|a| *a += more);
            if let Some(i) = axis.iter().position(|&a| a == atom) {
                axis.splice(i..=i, atom..=atom + more);
            }
        }
    }

    /// Gives an axis of 1 the size `len`, with its elements at the place of `atom`.
    pub fn insert(&mut self, axis: usize, atom: usize, len: usize) {
        self.atoms.insert(atom, len);
        self.axes.iter_mut().flatten().filter(|a| **a >= atom).for_each(|a| *a += 1);
        self.axes[axis].push(atom);
    }

    /// Makes an atom longer or shorter; one of a single element disappears.
    pub fn resize(&mut self, atom: usize, size: usize) {
        self.atoms[atom] = size;
        if size == 1 {
            self.atoms.remove(atom);
            for axis in &mut self.axes {
                axis.retain(|&a| a != atom);
                axis.iter_mut().filter(|a| **a > atom).for_each(|a| *a -= 1);
            }
        }
    }
}

/// Cuts the atoms of both tensors so that each axis that both have consists of equal ones; false if that cannot be.
pub fn refine(x: &mut View, y: &mut View) -> bool {
    for axis in 0..x.axes.len() {
        if x.axes[axis].is_empty() || y.axes[axis].is_empty() {
            continue;
        }
        let mut i = 0;
        while i < x.axes[axis].len() && i < y.axes[axis].len() {
            let (a, b) = (x.axes[axis][i], y.axes[axis][i]);
            let (m, n) = (x.atoms[a], y.atoms[b]);
            if m > n && m.is_multiple_of(n) {
                x.cut(a, &[n, m / n]);
            } else if n > m && n.is_multiple_of(m) {
                y.cut(b, &[m, n / m]);
            } else if m != n {
                return false;
            }
            i += 1;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1x48x44x44 as it lies in a map: height, width, channels.
    fn map() -> View {
        View::new(7, &[1, 48, 44, 44], &[0, 2, 3, 1])
    }

    #[test]
    fn a_channel_shuffle_costs_nothing() {
        let split = map().reshaped(&[24, 2, 1936]).unwrap();
        assert_eq!((&split.atoms[..], &split.axes[..]), (&[1936, 24, 2][..], &[vec![1], vec![2], vec![0]][..]));
        let halves = split.permuted(&[1, 0, 2]).reshaped(&[2, 1, 24, 44, 44]).unwrap();
        assert_eq!(halves.atoms, [44, 44, 24, 2]);
        assert_eq!(halves.axes, [vec![3], vec![], vec![2], vec![0], vec![1]]);
        let back = halves.reshaped(&[1, 48, 44, 44]).unwrap();
        assert_eq!((back.atoms.len(), &back.axes[1]), (4, &vec![3, 2]));
    }

    #[test]
    fn flattened_places_join() {
        let flat = map().reshaped(&[1, 48, 1936]).unwrap();
        assert_eq!((&flat.atoms[..], &flat.axis_order()[..]), (&[1936, 48][..], &[2, 1][..]));
        assert_eq!(map().reshaped(&[1, 48, 7, 44]), None);
    }

    #[test]
    fn tensors_are_cut_alike() {
        let mut x = View::new(0, &[12, 5], &[0, 1]);
        let mut y = View::new(1, &[3, 4, 5], &[1, 0, 2]).reshaped(&[12, 5]).unwrap();
        assert!(refine(&mut x, &mut y));
        assert_eq!((&x.atoms[..], &y.atoms[..]), (&[3, 4, 5][..], &[4, 3, 5][..]));
        assert_eq!((&x.axes[0], &y.axes[0]), (&vec![0, 1], &vec![1, 0]));
    }
}
