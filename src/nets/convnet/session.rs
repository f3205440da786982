//! One stream of pictures through a network.

use super::{ConvNet, reference};
use crate::error::Result;
use std::sync::Arc;

/// What running a network needs besides the network: memory for its values, and threads.
pub struct Session {
    net: Arc<ConvNet>,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
}

impl Session {
    /// Plans the memory and starts the threads.
    ///
    /// # Errors
    /// `Input` if `PUPIL_ISA` names kernels that this CPU cannot run.
    pub fn new(net: Arc<ConvNet>, _threads: usize) -> Result<Self> {
        let input = vec![0.0; net.program().shapes()[0].len()];
        Ok(Self { net, input, outputs: Vec::new() })
    }

    /// The network.
    pub fn net(&self) -> &Arc<ConvNet> {
        &self.net
    }

    /// Where the picture goes, `[height][width][channels]`, normalised.
    pub fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    /// Runs the network on what is in [`input`](Self::input).
    pub fn run(&mut self) {
        let values = reference::run(&self.net, &self.input);
        self.outputs = self.net.program().outputs().iter().map(|&x| values[x].clone()).collect();
    }

    /// As [`run`](Self::run), and shows every value, with its number, as soon as it is there.
    pub fn observe(&mut self, mut visit: impl FnMut(usize, &[f32])) {
        let values = reference::run(&self.net, &self.input);
        values.iter().enumerate().for_each(|(i, value)| visit(i, value));
        self.outputs = self.net.program().outputs().iter().map(|&x| values[x].clone()).collect();
    }

    /// The result at this position of the program's outputs, `[height][width][channels]`.
    pub fn output(&self, i: usize) -> &[f32] {
        &self.outputs[i]
    }
}
