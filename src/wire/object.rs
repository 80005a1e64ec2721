//! Objects of the model as tables: one row per key, from which reading, writing and tidying follow.

use super::Exact;
use super::codec::{Codec, Object};
use super::path::{self, Path};
use super::read::{MOST_POINTER, Reader};
use super::text::{Document, Members, Node};
use super::tidy::Tidier;
use super::write::Writer;
use prost_types::{Struct, Value};
use std::borrow::Cow;

/// A key of an object of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// As it is written.
    pub(super) name: &'static str,
    /// An older or misspelt name that is read as well.
    pub(super) alias: Option<&'static str>,
}

/// A row of a table as it is written.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) alias: Option<&'static str>,
    pub(super) field: &'static str,
    pub(super) codec: &'static str,
}

/// Most rows of a table.
const MOST_ROWS: usize = 16;

/// The members of one object, by row of its table.
#[derive(Debug)]
pub(super) struct Slots<'d> {
    named: [Option<Node<'d>>; MOST_ROWS],
    alias: [Option<Node<'d>>; MOST_ROWS],
}

impl<'d> Slots<'d> {
    /// Sorts members into rows; the last of equal keys wins. Members of no row go to `extras`.
    pub(super) fn sort(
        members: Members<'d>,
        keys: &[Key],
        row: fn(&str) -> Option<(usize, bool)>,
        mut extra: impl FnMut(Cow<'d, str>, Node<'d>),
    ) -> Self {
        debug_assert!(keys.len() <= MOST_ROWS);
        let mut slots = Self { named: [None; MOST_ROWS], alias: [None; MOST_ROWS] };
        for (key, node) in members {
            match row(&key) {
                Some((row, false)) => slots.named[row] = Some(node),
                Some((row, true)) => slots.alias[row] = Some(node),
                None => extra(key, node),
            }
        }
        slots
    }

    /// The value of a row. Beside a current key that is unset the alias counts; if both are set and differ, the alias stays as it
    /// came, in `extras`.
    pub(super) fn value<C: Codec>(
        &self,
        row: usize,
        key: Key,
        at: &Path<'_>,
        reader: &mut Reader,
        extras: &mut Option<Struct>,
    ) -> C::Value {
        let present = |node: Option<Node<'d>>| node.filter(|node| !node.is_null());
        let value = present(self.named[row]).map_or_else(C::unset, |node| C::read(node, &at.key(key.name), reader));
        let Some((alias, name)) = present(self.alias[row]).zip(key.alias) else { return value };
        if value == C::unset() {
            return C::read(alias, &at.alias(name, key.name), reader);
        }
        if !says::<C>(alias, &at.alias(name, key.name), &value, &reader.exact) {
            reader.insert(extras.get_or_insert_default(), name.into(), alias, at);
        }
        value
    }

    /// The node of a row that has no alias.
    pub(super) fn node(&self, row: usize) -> Option<Node<'d>> {
        self.named[row].filter(|node| !node.is_null())
    }
}

/// True if the alias says what its key says already: the same value, to the last digit.
fn says<C: Codec>(alias: Node<'_>, at: &Path<'_>, value: &C::Value, exact: &Exact) -> bool {
    let mut reader = Reader::default();
    let pointer = at.pointer(MOST_POINTER).unwrap_or_default();
    C::read(alias, at, &mut reader) == *value && path::within(exact, &pointer).eq(&reader.exact)
}

/// True if reading would leave the alias `name` among the extras, where it now is with the value `extra`, beside its key that has
/// the value `value`.
pub(super) fn alias_stays<C: Codec>(
    value: &C::Value,
    key: &str,
    name: &str,
    extra: &Value,
    at: &Path<'_>,
    exact: &Exact,
) -> bool {
    let mut writer = Writer::at(exact, at.key(name).pointer(MOST_POINTER).unwrap_or_default());
    writer.value(extra);
    let text = writer.into_text();
    let Ok(document) = Document::parse(&text, usize::MAX) else { return false };
    let alias = document.root();
    *value != C::unset() && !alias.is_null() && !says::<C>(alias, &at.alias(name, key), value, exact)
}

/// The part of an object that stands for more than one field of the generated type.
pub(super) trait Part<O> {
    /// Reads a value that is not null.
    fn read(object: &mut O, node: Node<'_>, at: &Path<'_>, reader: &mut Reader);

    /// Writes the value.
    fn write(object: &O, writer: &mut Writer<'_>);

    /// As [`Codec::tidy`].
    fn tidy(object: &mut O, at: &Path<'_>, tidier: &mut Tidier<'_>);
}

/// What a table says about an object of the model. The defaults are those of an object without fields of its own.
pub(super) trait Fields: Default {
    /// The rows of the table.
    const KEYS: &'static [Key] = &[];

    /// The same with all that stands there, for their documentation.
    #[cfg(test)]
    const ROWS: &'static [Row] = &[];

    /// The row of a key, and whether the key is its alias.
    fn row(_key: &str) -> Option<(usize, bool)> {
        None
    }

    /// Takes the fields out of `slots`.
    fn read_fields(_slots: &Slots<'_>, _at: &Path<'_>, _reader: &mut Reader, _extras: &mut Option<Struct>) -> Self {
        Self::default()
    }

    /// Writes every row, in order.
    fn write_fields(&self, _writer: &mut Writer<'_>) {}

    /// Tidies every field.
    fn tidy_fields(&mut self, _at: &Path<'_>, _tidier: &mut Tidier<'_>) {}

    /// True if `key` is one that the model names, and so must not be among the extras of the object at `at` with the value `extra`.
    fn is_modelled(&self, _key: &str, _extra: &Value, _at: &Path<'_>, _exact: &Exact) -> bool {
        false
    }
}

/// An object whose other keys are kept in `extra_fields`.
pub(super) trait Extras {
    fn extras(&self) -> &Option<Struct>;
    fn extras_mut(&mut self) -> &mut Option<Struct>;
}

/// Reads an object that keeps its other keys.
pub(super) fn read<O: Fields + Extras>(members: Members<'_>, at: &Path<'_>, reader: &mut Reader) -> O {
    let mut extras = None;
    let slots = Slots::sort(members, O::KEYS, O::row, |key, node| {
        reader.insert(extras.get_or_insert_default(), key, node, at);
    });
    let mut object = O::read_fields(&slots, at, reader, &mut extras);
    *object.extras_mut() = extras;
    object
}

/// Writes an object with its other keys after those of the model.
pub(super) fn write<O: Fields + Extras>(object: &O, writer: &mut Writer<'_>) {
    writer.begin_object();
    object.write_fields(writer);
    for (key, value) in object.extras().iter().flat_map(|extras| &extras.fields) {
        writer.extra(key, value);
    }
    writer.end_object();
}

/// Tidies an object and its other keys.
pub(super) fn tidy<O: Fields + Extras>(object: &mut O, at: &Path<'_>, tidier: &mut Tidier<'_>) {
    object.tidy_fields(at, tidier);
    let mut extras = object.extras_mut().take();
    let exact = tidier.exact;
    tidier.extras(&mut extras, at, |key, extra| object.is_modelled(key, extra, at, exact));
    *object.extras_mut() = extras;
}

impl<O: Fields + Extras + PartialEq> Object for O
where
    O: Whole,
{
    fn read(members: Members<'_>, at: &Path<'_>, reader: &mut Reader) -> Self {
        read(members, at, reader)
    }

    fn read_short(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        O::short(node, at, reader)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        O::write_whole(self, writer);
    }

    fn tidy(&mut self, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        tidy(self, at, tidier);
    }
}

/// What a few objects do differently from what their table says.
pub(super) trait Whole: Fields + Extras {
    /// As [`Object::read_short`].
    fn short(_node: Node<'_>, _at: &Path<'_>, _reader: &mut Reader) -> Option<Self> {
        None
    }

    /// As [`Object::write`].
    fn write_whole(&self, writer: &mut Writer<'_>) {
        write(self, writer);
    }
}

/// The table of an object, in the order in which keys are written: `"key" => field: Codec;`, with `, also "alias"` for a key that has
/// one, or `"key" => name, with Part;`.
macro_rules! fields {
    ($type:ty { $($key:literal => $field:tt $(: $codec:ty $(, also $alias:literal)?)? $(, with $part:ty)?;)* }) => {
        impl $crate::wire::object::Fields for $type {
            const KEYS: &'static [$crate::wire::object::Key] = &[
                $($crate::wire::object::Key { name: $key, alias: $crate::wire::object::fields!(@alias $($($alias)?)?) }),*
            ];

            #[cfg(test)]
            const ROWS: &'static [$crate::wire::object::Row] = &[
                $($crate::wire::object::Row {
                    key: $key,
                    alias: $crate::wire::object::fields!(@alias $($($alias)?)?),
                    field: stringify!($field),
                    codec: concat!($(stringify!($codec))? $(stringify!($part))?),
                }),*
            ];

            #[inline]
            fn row(key: &str) -> Option<(usize, bool)> {
                $crate::wire::object::fields!(@rows $($field)*);
                match key {
                    $($key => Some((Row::$field as usize, false)),)*
                    $($($($alias => Some((Row::$field as usize, true)),)?)?)*
                    _ => None,
                }
            }

            fn read_fields(
                slots: &$crate::wire::object::Slots<'_>,
                at: &$crate::wire::path::Path<'_>,
                reader: &mut $crate::wire::read::Reader,
                extras: &mut Option<prost_types::Struct>,
            ) -> Self {
                $crate::wire::object::fields!(@rows $($field)*);
                let mut object = Self::default();
                $(
                    let row = Row::$field as usize;
                    $crate::wire::object::fields!(@read object, $field $(: $codec)? $(, with $part)?; slots, row, at, reader, extras);
                )*
                object
            }

            fn write_fields(&self, writer: &mut $crate::wire::write::Writer<'_>) {
                $($crate::wire::object::fields!(@write self, $key, $field $(: $codec)? $(, with $part)?; writer);)*
            }

            fn tidy_fields(&mut self, at: &$crate::wire::path::Path<'_>, tidier: &mut $crate::wire::tidy::Tidier<'_>) {
                $($crate::wire::object::fields!(@tidy self, $key, $field $(: $codec)? $(, with $part)?; at, tidier);)*
            }

            #[allow(unused_variables)]
            fn is_modelled(
                &self,
                key: &str,
                extra: &prost_types::Value,
                at: &$crate::wire::path::Path<'_>,
                exact: &$crate::wire::Exact,
            ) -> bool {
                match key {
                    $($key => true,)*
                    $($($($alias => !$crate::wire::object::alias_stays::<$codec>(&self.$field, $key, $alias, extra, at, exact),)?)?)*
                    _ => false,
                }
            }
        }
    };
    (@rows $($field:tt)*) => {
        #[allow(non_camel_case_types, clippy::enum_variant_names)]
        enum Row { $($field,)* }
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
    (@read $object:ident, $field:tt : $codec:ty; $slots:ident, $row:ident, $at:ident, $reader:ident, $extras:ident) => {
        $object.$field = $slots.value::<$codec>($row, Self::KEYS[$row], $at, $reader, $extras)
    };
    (@read $object:ident, $field:tt, with $part:ty; $slots:ident, $row:ident, $at:ident, $reader:ident, $extras:ident) => {
        if let Some(node) = $slots.node($row) {
            <$part as $crate::wire::object::Part<Self>>::read(&mut $object, node, &$at.key(Self::KEYS[$row].name), $reader);
        }
    };
    (@write $self:ident, $key:literal, $field:tt : $codec:ty; $writer:ident) => {
        if !<$codec as $crate::wire::codec::Codec>::is_left_out(&$self.$field) {
            $writer.member($key, concat!("\"", $key, "\":"), |writer| <$codec as $crate::wire::codec::Codec>::write(&$self.$field, writer));
        }
    };
    (@write $self:ident, $key:literal, $field:tt, with $part:ty; $writer:ident) => {
        $writer.member($key, concat!("\"", $key, "\":"), |writer| <$part as $crate::wire::object::Part<Self>>::write($self, writer))
    };
    (@tidy $self:ident, $key:literal, $field:tt : $codec:ty; $at:ident, $tidier:ident) => {
        <$codec as $crate::wire::codec::Codec>::tidy(&mut $self.$field, &$at.key($key), $tidier)
    };
    (@tidy $self:ident, $key:literal, $field:tt, with $part:ty; $at:ident, $tidier:ident) => {
        <$part as $crate::wire::object::Part<Self>>::tidy($self, &$at.key($key), $tidier)
    };
}

/// Objects that keep their other keys in `extra_fields`, and do nothing differently from what their tables say.
macro_rules! extras {
    ($($type:ty),* $(,)?) => {
        $(
            impl $crate::wire::object::Extras for $type {
                fn extras(&self) -> &Option<prost_types::Struct> {
                    &self.extra_fields
                }

                fn extras_mut(&mut self) -> &mut Option<prost_types::Struct> {
                    &mut self.extra_fields
                }
            }
        )*
    };
}

pub(super) use {extras, fields};
