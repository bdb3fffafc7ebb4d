//! What the restart stage is given and no other: the hand that makes, stops and removes containers.

use std::ops::Deref;

use deployer_engine::Hand;

use crate::world::World;

/// What the stages share, and the hand.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    world: &'a World,
    /// The hand.
    pub hand: &'a dyn Hand,
}

impl<'a> Site<'a> {
    /// A site in a world.
    pub fn new(world: &'a World, hand: &'a dyn Hand) -> Self {
        Self { world, hand }
    }
}

impl Deref for Site<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        self.world
    }
}
