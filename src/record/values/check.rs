//! Looks through a value before it is written: what JSON would change silently is refused.
//!
//! `serde_json` writes NaN as `null` and 2^64 as a number that many readers round. This serializer
//! writes nothing; it only visits every part of a value and objects to those. The keys of a map, and
//! JSON that a program hands over as text, are looked at in the text.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::{self, Display};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{self, Serialize};
use serde_json::Error;
use serde_json::value::{RawValue, to_raw_value};

type Result<T, E = Error> = std::result::Result<T, E>;

/// `serde_json` reads 127 levels; three of them are the file's own.
const MAX_DEPTH: u8 = 100;
/// The name by which `serde_json` knows its own types that hold JSON as text.
const OWN_TYPES: &str = "$serde_json::private::";

/// A value as JSON text, unless it would not come back as it was.
pub(super) fn to_text(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>> {
    let has_keys = Cell::new(false);
    value.serialize(Check {
        depth: 0,
        is_text: false,
        has_keys: &has_keys,
    })?;
    let text = to_raw_value(value)?;
    if has_keys.get() {
        Text { depth: 0 }.deserialize(&*text)?;
    }
    Ok(text)
}

#[derive(Clone, Copy)]
struct Check<'a> {
    depth: u8,
    /// What follows is JSON as text.
    is_text: bool,
    /// There are keys that can only be checked in the whole text.
    has_keys: &'a Cell<bool>,
}

impl Check<'_> {
    fn deeper(self, levels: u8) -> Result<Self> {
        let depth = (0..levels).try_fold(self.depth, |depth, _| deeper(depth))?;
        Ok(Check { depth, ..self })
    }
}

fn deeper<E: serde::de::Error>(depth: u8) -> Result<u8, E> {
    if depth == MAX_DEPTH {
        return Err(E::custom("it is nested deeper than 100"));
    }
    Ok(depth + 1)
}

/// Methods that have nothing to object to.
macro_rules! accept {
    ($($method:ident $(<$error:ident>)? ($($type:ty),*)),* $(,)?) => {$(
        fn $method$(<$error>)?(self, $(_: $type),*) -> Result<() $(, $error)?> {
            Ok(())
        }
    )*};
}

/// Objects to a JSON text that is nested too deep, or in which a key comes twice.
#[derive(Clone, Copy)]
struct Text {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Text {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    accept! {
        visit_unit<E>(), visit_bool<E>(bool), visit_i64<E>(i64), visit_u64<E>(u64), visit_f64<E>(f64),
        visit_str<E>(&str),
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let depth = deeper(self.depth)?;
        while elements.next_element_seed(Text { depth })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = deeper(self.depth)?;
        let mut keys = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("{key:?} comes twice")));
            }
            members.next_value_seed(Text { depth })?;
        }
        Ok(())
    }
}

/// Objects to whole numbers of a JSON text that need more than 64 bits.
fn whole_numbers(text: &str) -> Result<()> {
    let unescaped = text.replace("\\\\", "").replace("\\\"", "");
    let outside_strings = unescaped.split('"').step_by(2);
    let words = outside_strings.flat_map(|part| {
        part.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '+' | '.'))
    });
    for word in words.filter(|word| !word.is_empty()) {
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit());
        fits(!is_whole || word.parse::<i64>().is_ok() || word.parse::<u64>().is_ok())?;
    }
    Ok(())
}

fn finite(is_finite: bool) -> Result<()> {
    let error = || Error::custom("JSON has no number that is not finite");
    is_finite.then_some(()).ok_or_else(error)
}

fn fits(fits: bool) -> Result<()> {
    let error = || Error::custom("the number needs more than 64 bits");
    fits.then_some(()).ok_or_else(error)
}

/// Methods that only go deeper, by so many levels.
macro_rules! go_deeper {
    ($($levels:literal: $($method:ident ($($type:ty),*)),*;)*) => {$($(
        fn $method(self, $(_: $type),*) -> Result<Self> {
            self.deeper($levels)
        }
    )*)*};
}

impl ser::Serializer for Check<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    accept! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32),
        serialize_i64(i64), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_char(char), serialize_bytes(&[u8]), serialize_none(),
        serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }
    go_deeper! {
        1: serialize_seq(Option<usize>), serialize_tuple(usize),
        serialize_tuple_struct(&'static str, usize);
        2: serialize_tuple_variant(&'static str, u32, &'static str, usize),
        serialize_struct_variant(&'static str, u32, &'static str, usize);
    }
    fn serialize_i128(self, value: i128) -> Result<()> {
        fits(i64::try_from(value).is_ok() || u64::try_from(value).is_ok())
    }
    fn serialize_u128(self, value: u128) -> Result<()> {
        fits(u64::try_from(value).is_ok())
    }
    fn serialize_f32(self, value: f32) -> Result<()> {
        finite(value.is_finite())
    }
    fn serialize_f64(self, value: f64) -> Result<()> {
        finite(value.is_finite())
    }
    fn serialize_str(self, text: &str) -> Result<()> {
        if self.is_text {
            whole_numbers(text)
        } else {
            Ok(())
        }
    }
    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<()> {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        value.serialize(self.deeper(1)?)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self> {
        self.has_keys.set(true);
        self.deeper(1)
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self> {
        if name.starts_with(OWN_TYPES) {
            self.has_keys.set(true);
            let is_text = true;
            return Ok(Check { is_text, ..self });
        }
        self.deeper(1)
    }
}

/// Looks through the elements of something; some have a name.
macro_rules! compound {
    ($($of:ident: $method:ident $(($name:ty))?),* $(,)?) => {$(
        impl ser::$of for Check<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<()> {
                value.serialize(*self)
            }
            fn end(self) -> Result<()> {
                Ok(())
            }
        }
    )*};
}

compound! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl ser::SerializeMap for Check<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        key.serialize(*self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.serialize(*self)
    }
    fn end(self) -> Result<()> {
        Ok(())
    }
}
