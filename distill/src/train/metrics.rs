//! What was measured during a training, as a JSON object on each line of a file.

use crate::error::{Error, Result};
use pupil::output;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Steps that were done.
    pub step: u64,
    /// The part of the training.
    pub phase: String,
    /// Times all of the text or all pictures were gone through.
    pub epoch: u64,
    /// Mean loss a token, or a batch of pictures, since the last record.
    pub loss: f64,
    /// Of detectors: what the loss is made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f64>,
    /// The learning rate.
    pub rate: f64,
    /// Tokens a second, padding not included; or pictures a second.
    pub speed: f64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Norm of the last gradient, before clipping.
    pub norm: f64,
    /// If measured: the cross-entropy of a token of the validation part. Of detectors only the score is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// If measured: how good what the student writes or finds is, from 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// The file of records.
pub struct Metrics {
    path: PathBuf,
    records: Vec<Record>,
    /// Whether the file holds these records and no others.
    written: bool,
}

impl Metrics {
    /// Opens the records of a training that goes on after `step` steps; later ones are forgotten. The file stays as it is until
    /// one is added: the training may be refused yet.
    ///
    /// # Errors
    /// `Io` if the file cannot be read, `Format` if it is something else.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let records = match Self::read(path, step) {
            Err(_) if !path.exists() => Vec::new(),
            records => records?,
        };
        Ok(Self { path: path.to_path_buf(), records, written: false })
    }

    /// The records of a training up to a step.
    ///
    /// # Errors
    /// `Io` if the file cannot be read, `Format` if it is something else.
    pub fn read(path: &Path, step: u64) -> Result<Vec<Record>> {
        let text = fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        let mut records = Vec::new();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            match serde_json::from_str::<Record>(line) {
                Ok(record) if record.step <= step => records.push(record),
                Ok(_) => {}
                // A program that was killed may have left half a line.
                Err(_) if number + 1 == lines.len() => {}
                Err(error) => {
                    let (path, number) = (path.display(), number + 1);
                    return Err(Error::format(format!("{path} line {number}: {error}, expected a record")));
                }
            }
        }
        Ok(records)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `Io` if it cannot be written.
    pub fn add(&mut self, record: Record) -> Result<()> {
        if self.written {
            let file = OpenOptions::new().append(true).open(&self.path);
            let added = file.and_then(|mut file| file.write_all(line(&record).as_bytes()));
            added.map_err(|error| Error::io(&self.path, &error))?;
            self.records.push(record);
        } else {
            self.records.push(record);
            let text: String = self.records.iter().map(line).collect();
            output::write(&self.path, text.as_bytes())?;
            self.written = true;
        }
        Ok(())
    }

    /// All records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_after_the_checkpoint_are_forgotten() {
        let path = std::env::temp_dir().join(format!("pupil-metrics-{}.jsonl", std::process::id()));
        let _ = fs::remove_file(&path);
        let record = |step| Record { step, loss: 1.5, validation: (step == 2).then_some(0.25), ..Record::default() };
        let mut metrics = Metrics::open(&path, 0).unwrap();
        (1..=3).for_each(|step| metrics.add(record(step)).unwrap());
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 4, \"ph").unwrap();

        let before = fs::read(&path).unwrap();
        let mut metrics = Metrics::open(&path, 2).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        metrics.add(record(3)).unwrap();
        assert_eq!(Metrics::open(&path, 9).unwrap().records(), [record(1), record(2), record(3)]);

        fs::write(&path, "what?\n{}\n").unwrap();
        assert!(Metrics::open(&path, 9).err().unwrap().to_string().contains("line 1"));
        fs::remove_file(&path).unwrap();
    }
}
