//! What somebody on the way sees of TLS: where the records end, and what they seem to be. What is in them he does not.
#![forbid(unsafe_code)]

/// The type that each protected record wears.
const PROTECTED: u8 = 23;

/// A type, a version, a length.
const HEADER: usize = 5;

/// A record that has passed to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// It is protected; otherwise anybody can read it.
    pub(crate) protected: bool,
    /// How many bytes it has behind its header.
    pub(crate) len: usize,
}

/// The records of one direction.
#[derive(Debug, Default)]
pub(crate) struct Records {
    header: [u8; HEADER],
    /// How much of it has passed.
    begun: usize,
    /// How many bytes of the record it begins have not.
    left: usize,
    whole: Vec<Record>,
}

impl Records {
    /// These bytes pass.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let header = bytes.len().min(HEADER - self.begun);
            self.header[self.begun..self.begun + header].copy_from_slice(&bytes[..header]);
            self.begun += header;
            bytes = &bytes[header..];
            let [kind, _, _, high, low] = self.header;
            let len = usize::from(u16::from_be_bytes([high, low]));
            if header > 0 && self.begun == HEADER {
                self.left = len;
            }
            let body = bytes.len().min(self.left);
            self.left -= body;
            bytes = &bytes[body..];
            if self.begun == HEADER && self.left == 0 {
                self.whole.push(Record { protected: kind == PROTECTED, len });
                self.begun = 0;
            }
        }
    }

    /// Those that have passed to their ends, in their order.
    pub(super) fn whole(&self) -> &[Record] {
        &self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_when_its_last_byte_has_passed() {
        let row = [&[22, 3, 1, 0, 2, 7, 7][..], &[20, 3, 3, 0, 0], &[23, 3, 3, 1, 0], &[0; 256]].concat();
        let all = [(false, 2), (false, 0), (true, 256)].map(|(protected, len)| Record { protected, len });
        for step in [1, 2, 5, 6, row.len()] {
            let mut records = Records::default();
            for (at, piece) in row[..row.len() - 1].chunks(step).enumerate() {
                assert_eq!(records.whole().len(), [7, 12].iter().filter(|&&end| end <= at * step).count());
                records.pass(piece);
            }
            assert_eq!(records.whole(), &all[..2]);
            records.pass(&row[row.len() - 1..]);
            assert_eq!(records.whole(), all);
        }
    }
}
