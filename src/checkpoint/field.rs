//! Fields of records: single values in a state that are more than numbers.

use super::store::{Field, Store, StoreError};

/// An enum of variants without data, kept by the place in the list of all.
pub trait Choice: Copy + PartialEq + 'static {
    /// All variants. Their order is part of the format: new ones go to the end.
    const ALL: &'static [Self];
}

macro_rules! scalar_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const BLANK: Self = 0 as $type;

            fn persist(values: &mut [Self], name: &str, store: &mut Store) -> Result<(), StoreError> {
                store.values(name, values)
            }
        }
    )*};
}

scalar_fields!(f32, f64, u8, u32, u64);

/// Hands over `values` as others, which `read` turns back; `None` from it is an error that names the value.
fn persist_as<V: Copy, S: Field + std::fmt::Display>(
    values: &mut [V],
    name: &str,
    store: &mut Store,
    write: impl Fn(V) -> S,
    read: impl Fn(S) -> Option<V>,
) -> Result<(), StoreError> {
    let mut stored: Vec<S> = values.iter().map(|value| write(*value)).collect();
    S::persist(&mut stored, name, store)?;
    for (value, stored) in values.iter_mut().zip(stored) {
        *value = read(stored).ok_or_else(|| store.malformed(name, format!("{stored} is not one of its values")))?;
    }
    Ok(())
}

impl Field for usize {
    const BLANK: Self = 0;

    fn persist(values: &mut [Self], name: &str, store: &mut Store) -> Result<(), StoreError> {
        persist_as(values, name, store, |value| value as u64, |stored| stored.try_into().ok())
    }
}

impl Field for bool {
    const BLANK: Self = false;

    fn persist(values: &mut [Self], name: &str, store: &mut Store) -> Result<(), StoreError> {
        persist_as(values, name, store, u8::from, |stored| (stored <= 1).then_some(stored == 1))
    }
}

impl<C: Choice> Field for C {
    const BLANK: Self = C::ALL[0];

    fn persist(values: &mut [Self], name: &str, store: &mut Store) -> Result<(), StoreError> {
        let place = |value: C| C::ALL.iter().position(|other| *other == value).expect("all variants are listed") as u8;
        persist_as(values, name, store, place, |stored| C::ALL.get(usize::from(stored)).copied())
    }
}

/// Which values are there, as `NAME.present`, and the values.
impl<V: Field> Field for Option<V> {
    const BLANK: Self = None;

    fn persist(values: &mut [Self], name: &str, store: &mut Store) -> Result<(), StoreError> {
        let mut present: Vec<bool> = values.iter().map(Option::is_some).collect();
        let mut found: Vec<V> = values.iter().map(|value| value.unwrap_or(V::BLANK)).collect();
        store.fields(&format!("{name}.present"), &mut present)?;
        store.fields(name, &mut found)?;
        for (value, (present, found)) in values.iter_mut().zip(present.into_iter().zip(found)) {
            *value = present.then_some(found);
        }
        Ok(())
    }
}
