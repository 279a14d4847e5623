//! Numbered places for values of which there are many: side by side in pages, so that none pays for an allocation of its own, and
//! a value never moves. Knows nothing of what stands in them.

/// Values in a page.
const PAGE: usize = 32;

/// Places from 0 on. Pages are made when a place in them is first used, and stay.
#[derive(Debug)]
pub(crate) struct Places<T> {
    pages: Vec<Option<Box<[Option<T>; PAGE]>>>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Places<T> {
    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.pages.get(place / PAGE)?.as_ref()?[place % PAGE].as_ref()
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.pages.get_mut(place / PAGE)?.as_mut()?[place % PAGE].as_mut()
    }

    /// Put a value into a place that is free.
    pub(crate) fn put(&mut self, place: usize, value: T) {
        let page = place / PAGE;
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let values = self.pages[page].get_or_insert_with(|| Box::new([const { None }; PAGE]));
        assert!(values[place % PAGE].is_none(), "place {place} is taken");
        values[place % PAGE] = Some(value);
    }

    /// Drop the value of a place where it stands: what it wipes is wiped, and no copy is left.
    pub(crate) fn clear(&mut self, place: usize) {
        if let Some(Some(page)) = self.pages.get_mut(place / PAGE) {
            page[place % PAGE] = None;
        }
    }

    /// All values, in order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let pages = self.pages.iter().filter_map(Option::as_ref);
        pages.flat_map(|page| page.iter().filter_map(Option::as_ref))
    }
}

/// A round over all of so many places, a few at a time. One that is begun before the last is over goes on from where that was, so it
/// comes round however often it is begun.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Round {
    next: usize,
    left: usize,
    places: usize,
}

impl Round {
    /// Go once to each of so many places. Whatever has a later one came later.
    pub(crate) fn begin(&mut self, places: usize) {
        (self.left, self.places) = (places, places);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }
}

/// The places, one behind the other.
impl Iterator for Round {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = self.next % self.places;
        self.next = place + 1;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_comes_to_every_place_also_if_it_is_begun_again_and_again_and_places_come() {
        let mut round = Round::default();
        assert_eq!((round.next(), round.is_over()), (None, true));
        round.begin(5);
        assert_eq!(round.by_ref().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        round.begin(7);
        let first: Vec<usize> = round.by_ref().take(3).collect();
        assert_eq!((first, round.is_over()), (vec![3, 4, 5], false));
        round.begin(7);
        assert_eq!(round.by_ref().collect::<Vec<_>>(), [6, 0, 1, 2, 3, 4, 5]);
        assert!(round.is_over());
        round.begin(2);
        assert_eq!(round.collect::<Vec<_>>(), [0, 1], "others are gone");
    }

    #[test]
    fn values_keep_their_places_and_addresses_while_others_come_and_go() {
        let mut places = Places::default();
        places.put(100, 1);
        let at = std::ptr::from_ref(places.get(100).expect("it was put there"));
        (0..100).for_each(|place| places.put(place, 0));
        places.put(10_000, 2);
        (0..100).for_each(|place| places.clear(place));
        places.clear(1 << 20);
        assert_eq!(places.get(100).map(std::ptr::from_ref), Some(at));
        assert_eq!(places.iter().collect::<Vec<_>>(), [&1, &2]);
        assert_eq!(
            (places.get(5), places.get(500), places.get(1 << 20)),
            (None, None, None)
        );
        places.put(5, 3);
        assert_eq!(places.get_mut(5), Some(&mut 3));
    }
}
