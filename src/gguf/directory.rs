//! Named things in file order, found by name.

/// Something with a name.
pub(super) trait Named {
    fn name(&self) -> &str;
}

/// Items in file order, and their order by name. Names are unique.
pub(super) struct Directory<T> {
    items: Vec<T>,
    by_name: Vec<usize>,
}

impl<T: Named> Directory<T> {
    /// Sorts the names; if one appears twice, it is the error.
    pub(super) fn new(items: Vec<T>) -> Result<Self, String> {
        let mut named: Vec<(&str, usize)> = items.iter().enumerate().map(|(i, item)| (item.name(), i)).collect();
        named.sort_unstable();
        if let Some((twice, _)) = named.iter().zip(named.iter().skip(1)).find(|(a, b)| a.0 == b.0) {
            return Err(twice.0.to_owned());
        }
        let by_name = named.into_iter().map(|(_, i)| i).collect();
        Ok(Self { items, by_name })
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    pub(super) fn find(&self, name: &str) -> Option<&T> {
        let at = self.by_name.binary_search_by(|&i| self.items[i].name().cmp(name)).ok()?;
        self.items.get(self.by_name[at])
    }
}
