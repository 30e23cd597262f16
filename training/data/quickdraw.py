"""Quick, Draw!: the words to learn from, and a reader of their doodles as pen strokes."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from training.data.arrays import Arrays
from training.data.strokes import Drawn, pack

DOODLES_PER_WORD = 28
HEAD_BYTES = 32 * 1024  # of each file: holds more doodles than that, and the files are 23 GB in all

# 267 of 345. The others are for choosing and testing a model, or look like a digit (circle, line, snowman …).
WORDS = re.split(
    r",\s+",
    """aircraft carrier, airplane, alarm clock, ambulance, angel, animal migration, ant, anvil, apple, asparagus, axe,
backpack, banana, bandage, barn, baseball, basket, basketball, bat, bathtub, beach, bear, bed, bee, belt, bench,
bicycle, binoculars, bird, birthday cake, blackberry, book, boomerang, bowtie, brain, bread, broccoli, bulldozer, bus,
bush, calculator, calendar, camel, camouflage, campfire, cannon, canoe, carrot, castle, cat, ceiling fan, cell phone,
chair, chandelier, church, clock, cloud, coffee cup, compass, computer, cooler, couch, cow, crab, crayon, crocodile,
crown, cruise ship, cup, diamond, dishwasher, dog, dolphin, donut, door, dragon, drill, drums, duck, dumbbell, ear,
elephant, eraser, eye, eyeglasses, face, fan, feather, fence, finger, fireplace, firetruck, fish, flamingo,
flashlight, floor lamp, flower, flying saucer, foot, frog, frying pan, garden, garden hose, giraffe, goatee, golf
club, grapes, grass, guitar, hamburger, hammer, hand, harp, hat, headphones, hedgehog, helicopter, helmet, hexagon,
hockey puck, horse, hospital, hot air balloon, hot dog, hot tub, house, house plant, hurricane, ice cream, jacket,
jail, key, keyboard, knee, ladder, lantern, laptop, leg, light bulb, lighter, lightning, lion, lipstick, lobster,
lollipop, mailbox, map, marker, matches, megaphone, microphone, microwave, monkey, moon, mosquito, motorbike, mouse,
moustache, mug, nail, ocean, octagon, oven, paintbrush, palm tree, pants, paper clip, parachute, parrot, passport,
peas, pencil, penguin, pickup truck, picture frame, pig, pillow, pineapple, pliers, police car, pool, popsicle,
postcard, purse, rabbit, raccoon, rainbow, rake, remote control, rifle, roller coaster, sailboat, sandwich, saw,
saxophone, school bus, scissors, screwdriver, sea turtle, see saw, shark, sheep, shoe, shorts, shovel, skull,
skyscraper, smiley face, snake, snorkel, snowflake, soccer ball, sock, speedboat, spider, spoon, spreadsheet, square,
squiggle, squirrel, stairs, star, steak, stereo, stethoscope, stop sign, streetlight, submarine, suitcase, sun, swan,
sweater, swing set, syringe, t-shirt, teapot, teddy-bear, television, tent, The Great Wall of China, The Mona Lisa,
tiger, toaster, toe, tooth, toothbrush, toothpaste, tornado, tractor, traffic light, train, tree, triangle, trombone,
umbrella, underwear, van, vase, violin, washing machine, watermelon, wheel, windmill, wine bottle, yoga, zebra,
zigzag""",
)


def quickdraw(paths: Sequence[Path]) -> Arrays:
    """The first doodles of each word that Google's network recognised; ``paths``: WORD.ndjson each."""

    def read() -> Iterator[Drawn]:
        for path in paths:
            # without the last line, which is cut
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
            doodles = [doodle for doodle in map(json.loads, lines) if doodle["recognized"]]
            for doodle in doodles[:DOODLES_PER_WORD]:
                yield Drawn(doodle["word"], [np.array(stroke[:2], np.float64).T for stroke in doodle["drawing"]])

    return pack(read())
