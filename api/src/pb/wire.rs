//! Protobuf's wire format: tags, varints, lengths. Nothing of Kubernetes.

use super::Error;

/// A value on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Reads a message's fields: number and value.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn read(&mut self) -> Result<(u32, Item<'a>), Error> {
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).map_err(|_| Error::Truncated)?;
        let item = match tag & 7 {
            0 => Item::Varint(varint(&mut self.rest)?),
            1 => Item::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Error::Truncated)?)),
            2 => {
                let len = usize::try_from(varint(&mut self.rest)?).map_err(|_| Error::Truncated)?;
                Item::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Item::Fixed32
            }
            other => return Err(Error::WireType(u8::try_from(other).unwrap_or(u8::MAX))),
        };
        Ok((number, item))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Item<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Reads one varint off the front.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(Error::Truncated)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::Truncated)
}

pub(super) fn text(bytes: &[u8], field: &'static str) -> Result<String, Error> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::Utf8(field))
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("below 0x80"));
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_tag(out, number, 0);
    put_varint(out, value.cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_written() {
        let mut out = Vec::new();
        put_int(&mut out, 1, -1);
        put_int(&mut out, 2, 300);
        put_bytes(&mut out, 16, b"abc");
        let fields: Vec<_> = Fields::new(&out).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields, [(1, Item::Varint(u64::MAX)), (2, Item::Varint(300)), (16, Item::Bytes(b"abc"))]);
    }

    #[test]
    fn short_messages_are_refused() {
        for bytes in [&[0x0a, 5, 1][..], &[0x80], &[0xff; 11], &[0x09, 1]] {
            assert!(Fields::new(bytes).any(|f| f.is_err()), "{bytes:?}");
        }
    }
}
