"""The sentences of the demo corpus: a small grammar of our own, with intents and slots.

A rule is a list of alternatives; "{name}" in an alternative stands for the rule of that name. Rules of a spoken
command that carry its meaning (a room, an artist, a number of people) are its slots.
"""

from typing import NamedTuple

import numpy as np


class Sentence(NamedTuple):
    """What is said.

    Attributes:
        spoken: text for the synthesiser, with the punctuation that shapes its melody.
        words: the transcript, upper case, A to Z and apostrophe.
        intent: action_object or action_object_location of a command; "statement", "question", "digits", "words" else.
        slots: {"entity", "value", "first_word", "end_word"}, the words being words[first_word:end_word].
    """

    spoken: str
    words: tuple[str, ...]
    intent: str
    slots: list[dict[str, str | int]]


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("/"))


DIGITS = _list("zero/one/two/three/four/five/six/seven/eight/nine")

# The slots: their names are the entities, an alternative is a value.
ENTITIES: dict[str, tuple[str, ...]] = {
    "room": _list("kitchen/bedroom/bathroom/garage/hallway/nursery/cellar/study/porch/living room"),
    "artist": _list(
        "Julia Thorn/the Blue Foxes/Victor Shaw/Zoe Young/the Measure Boys/Hugh Archer/Faith Yu/Otto Krause/"
        "the Quiet Choir/Joyce Albright/Ruth Chang/the Vision Thieves"
    ),
    "genre": _list("jazz/rock/folk/classical/country/dance/opera/chamber music/blues/soul"),
    "playlist": _list(
        "morning joy/long drive/deep focus/beach party/quiet hours/rainy Thursday/my favourites/usual treasure"
    ),
    "city": _list(
        "Boston/Chicago/Youngstown/Zurich/Oxford/Vancouver/Plymouth/Cairo/Seoul/Geneva/Hull/Bath/Detroit/Norway/Asia"
    ),
    "day": _list(
        "today/tomorrow/tonight/on Monday/on Tuesday/on Wednesday/on Thursday/on Friday/on Saturday/on Sunday/"
        "this weekend/next week/in July/in March"
    ),
    "hour": _list(
        "six in the morning/seven thirty/noon/a quarter past eight/half past nine/five o'clock/midnight/eleven fifteen"
    ),
    "duration": _list(
        "two minutes/five minutes/ten minutes/twelve minutes/twenty minutes/thirty seconds/forty five seconds/an hour/"
        "three hours/ninety seconds"
    ),
    "party": _list("two/three/four/five/six/seven/eight/nine/ten"),
    "cuisine": _list("Thai/Turkish/French/Chinese/Indian/Polish/Vietnamese/Belgian/Greek/Jewish"),
    "title": _list(
        "the silver voyage/a thousand bridges/the noisy orchard/casual measures/under the oak/the wolf and the judge/"
        "nothing but fog/five good cooks/the hidden treasure"
    ),
    "stars": _list("zero/one/two/three/four/five"),
    "contact": _list("mother/father/my cousin/Sasha/George/Thea/Joy/Yusuf/Charlotte/the doctor/uncle Hugh/my boss"),
    "item": _list("oranges/milk/fish/brown sugar/shampoo/yoghurt/orange juice/toothpaste/cheese/rough paper/oil/beans"),
    "channel": _list("channel one/channel five/the sports channel/the news/the weather channel/the youth channel"),
}

# Commands of a smart home, (action, object): their intent ends with the location, as in action_object_location.
_PLACE_COMMANDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("activate", "lights"): _list("turn on the lights/switch the lights on/put the lights on/lights on/more light"),
    ("deactivate", "lights"): _list("turn off the lights/switch the lights off/lights out/kill the lights"),
    ("increase", "heat"): _list("turn the heat up/make it warmer/increase the temperature/heat up/it's too cold"),
    ("decrease", "heat"): _list("turn the heat down/make it cooler/decrease the temperature/it's far too hot"),
    ("open", "blinds"): _list("open the blinds/raise the blinds/pull up the blinds"),
    ("close", "blinds"): _list("close the blinds/lower the blinds/shut the blinds"),
}
_LOCATIONS = (("kitchen", "kitchen"), ("bedroom", "bedroom"), ("washroom", "washroom"))

# Other commands: the intent is the key.
_COMMANDS: dict[str, tuple[str, ...]] = {
    "activate_music": _list("start the music/play the music/I'd like some music please/put some music on"),
    "deactivate_music": _list("stop the music/pause the music/music off please/no more music"),
    "increase_volume": _list("turn it up/louder please/I can't hear that/raise the volume/increase the volume"),
    "decrease_volume": _list("turn it down/that's too loud/quieter please/lower the volume/reduce the noise"),
    "activate_lamp": _list("turn on the lamp/switch on the lamp/lamp on"),
    "deactivate_lamp": _list("turn off the lamp/switch off the lamp/lamp off"),
    "bring_newspaper": _list("bring me the newspaper/fetch the newspaper/get me the newspaper"),
    "bring_juice": _list("bring me some juice/get me the juice/fetch my juice"),
    "bring_shoes": _list("bring my shoes/fetch my shoes/get me my shoes please"),
    "bring_socks": _list("bring my socks/fetch my socks/get me my socks"),
    "change_language": _list("change the language/switch the language/set my phone to another language"),
    "clean_room": _list("vacuum the {room}/clean the {room} {day}/sweep the {room} please"),
    "play_music": _list(
        "play {genre}/play {artist}/play some {genre} by {artist}/I want to hear {artist} in the {room}/"
        "put on the {playlist} playlist"
    ),
    "add_to_playlist": _list("add {artist} to {playlist}/put this song on the {playlist} playlist"),
    "get_weather": _list(
        "what's the weather in {city} {day}?/will it rain in {city} {day}?/is it going to be cold {day}?/"
        "how much snow is there in {city}?"
    ),
    "book_table": _list(
        "book a {cuisine} restaurant in {city} for {party}/we need a table for {party} {day}/"
        "find a {cuisine} place for {party} people at {hour}"
    ),
    "rate_book": _list("give {title} {stars} stars/rate {title} {stars} out of five/{title} gets {stars} points"),
    "find_film": _list("where can I see {title}?/is {title} on in {city} {day}?/show me films at {hour}"),
    "set_timer": _list("set a timer for {duration}/count down {duration}/remind me in {duration}"),
    "set_alarm": _list("wake me at {hour} {day}/set an alarm for {hour}/I have to get up at {hour}"),
    "call_contact": _list("call {contact}/phone {contact} at {hour}/ring {contact} please"),
    "buy_item": _list("put {item} on the list/we need more {item}/order {item} and {item} for {day}"),
    "watch_channel": _list("switch to {channel}/I'd rather watch {channel}/show {channel} in the {room}"),
}

# Plain sentences, rich in sounds: nothing in them is a slot.
_PLAIN: dict[str, tuple[str, ...]] = {
    "statement": (
        "{person} {did} {thing}.",
        "{person} {did} {thing} {where}.",
        "{when}, {person} {did} {thing}.",
        "{thing} {was} {adjective}.",
        "{thing} {where} {was} {adjective} and {adjective}.",
        "{person} {did} {thing}, and {person} {did} {thing}.",
        "{there} {thing} {where}.",
        "{person} {thought} that {thing} {was} {adverb} {adjective}.",
        "{adverb}, {person} {went} {where}.",
        "{person} {went} {where} with {thing} {when}.",
    ),
    "question": (
        "did {person} {do} {thing}?",
        "why did {thing} look so {adjective}?",
        "who {did} {thing} {where}?",
        "which {noun} {was} {adverb} {adjective}?",
        "should we {do} {thing} {when}?",
        "where could {person} {do} {thing}?",
        "how would you {do} {thing}?",
    ),
    "person": _list(
        "she/he/they/we/you/I/the judge/my father/her mother/the shy boy/the young girl/a foolish thief/our teacher/"
        "the village doctor/their neighbour/the old sailor/that child/the pilot/a huge giant/the cook/Zach/Joyce/Beth/"
        "Hugh/the engineer/his youngest nephew/the usual crowd/both brothers/no one/everyone"
    ),
    "did": _list(
        "measured/washed/bought/threw/found/took/saw/enjoyed/pushed/shook/chose/hid/brought/caught/pulled/drew/wore/fed/"
        "changed/judged/watched/missed/cooked/mended/showed/heard/used/covered/described/knew/left/sold/avoided/kept"
    ),
    "do": _list(
        "measure/wash/buy/throw/find/take/see/enjoy/push/shake/choose/hide/bring/catch/pull/draw/wear/feed/change/judge/"
        "watch/miss/cook/mend/show/hear/use/cover/describe/know/leave/sell/avoid/keep/point out/join/loathe/lose"
    ),
    "thing": (
        "the {noun}",
        "one {adjective} {noun}",
        "the {adjective} {noun}",
        "this {noun}",
        "those {number} {plural}",
        "{number} {adjective} {plural}",
        "some {plural}",
        "my {noun}",
        "her {adjective} {noun}",
        "the {noun}'s {noun}",
        "their {plural}",
    ),
    "noun": _list(
        "book/boat/treasure/garage/coin/engine/bridge/feather/mouth/thumb/shoe/fish/chair/match/jug/jacket/yard/onion/"
        "window/wolf/queen/square/whale/house/hat/hand/van/voice/valley/zoo/nose/garden/goat/bag/fog/dog/kite/cake/"
        "basket/desk/tree/train/truck/stream/street/spring/string/flower/plate/blanket/cloud/glove/glass/brush/bread/"
        "drum/dress/cradle/fruit/frog/throne/sleeve/smile/snake/spoon/stone/swing/twin/cube/view/music/human/hotel/"
        "lemon/melon/ladder/letter/river/rabbit/rocket/orchard/organ/ocean/oyster/envelope/apple/ankle/eagle/insect/island/"
        "umbrella/oven/elbow/army/arm/ear/air/hour/towel/tower/fire/wire/choir/loyal dog/mirage/collage/pleasure/"
        "leisure/vision/decision/puzzle/bottle/metal/pencil/tunnel/button/kitten/mountain/picture/lecture/creature/question/"
        "nation/station/suggestion/health/cloth/month/path/breath/tooth/earth/north wind"
    ),
    "plural": _list(
        "books/horses/watches/pages/roses/mice/teeth/leaves/wolves/shelves/boxes/desks/guests/masks/clothes/months/"
        "baths/boys/girls/women/children/judges/bridges/coins/toys/clouds/cows/owls/songs/kings/rings/thoughts/eggs/legs/"
        "foxes/gloves/waves/stoves/bees/trees/shoes/spoons/pools/schools/tools/birds/words/cars/stars/doors/floors"
    ),
    "adjective": _list(
        "big/thick/thin/smooth/rough/loud/quiet/huge/young/yellow/wise/usual/casual/beige/noisy/royal/loyal/good/wooden/"
        "bushy/full/cheap/rich/fresh/sharp/soft/strong/narrow/wide/vague/heavy/clever/square/sour/brown/round/pure/cool/"
        "blue/new/strange/gentle/large/dark/calm/warm/short/tall/early/dirty/third/worthy/worthless/healthy/happy/angry/"
        "empty/ugly/funny/sunny/lovely/shiny/easy/lazy/crazy/busy/dusty/rusty/frozen/golden/hidden/broken/foreign/ancient/"
        "precious/delicious/dangerous/curious/serious/enormous/simple/gradual/visual/unusual/thoughtful/useful/careful"
    ),
    "number": _list("two/three/four/five/six/seven/eight/nine/ten/eleven/twelve/thirteen/twenty/thirty/a hundred"),
    "where": _list(
        "in the garden/on the hill/under the bridge/by the sea/at the zoo/near the church/behind the garage/"
        "beyond the marsh/through the fog/over there/in the shadow of the oak/around the corner/across the yard/"
        "above the clouds/below the window/beside the fire/in Asia/between two houses/at school/down south/up north/"
        "without a sound/in the usual place/in the boiling sun"
    ),
    "when": _list(
        "yesterday/last Thursday/this morning/every July/long ago/before noon/after the storm/at first/"
        "in the fourth year/once a month/at the end of the week/just now/by accident/for a short while/"
        "in the early hours/next Tuesday"
    ),
    "was": _list(
        "looked/seemed/became/remained/felt/had been/hadn't been/could be/must have been/would be/won't be/can't be/"
        "might be"
    ),
    "there": _list(
        "there is/there was/there's/here comes/look at/beware of/I like/nobody wants/don't touch/let's keep"
    ),
    "thought": _list("thought/said/knew/hoped/dreamed/believed/doubted/wrote/shouted/whispered/imagined/agreed"),
    "went": _list("went/walked/ran/hurried/drove/sailed/jumped/crawled/vanished/returned/stood/waited/rode/flew/swam"),
    "adverb": _list(
        "slowly/quickly/rather/very/usually/hardly/quite/truly/probably/surely/never/always/perhaps/fully/gently/"
        "too/actually/surprisingly/obviously/rarely/thankfully"
    ),
}

_RULES = _PLAIN | ENTITIES
# What a list of loose words is drawn from.
_LOOSE = tuple(
    word for rule in ("noun", "plural", "adjective", "did", "do") for word in _PLAIN[rule] if " " not in word
)


def _expand(template: str, rng: np.random.Generator, path: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """Replace "{rule}" until only text is left: (piece of text, the rules that it came through), in order."""
    pieces: list[tuple[str, tuple[str, ...]]] = []
    while "{" in template:
        before, _, rest = template.partition("{")
        name, _, template = rest.partition("}")
        alternatives = _RULES[name]
        pieces.append((before, path))
        pieces += _expand(alternatives[rng.integers(len(alternatives))], rng, (*path, name))
    return [*pieces, (template, path)]


def _sentence(template: str, intent: str, rng: np.random.Generator) -> Sentence:
    spoken = ""
    words: list[str] = []
    slots: list[dict[str, str | int]] = []
    for text, path in _expand(template, rng):
        spoken += text
        # An alternative never ends or begins inside a word, but for the punctuation and the 's that follow a rule.
        new = "".join(sign for sign in text.upper() if sign.isalpha() or sign in "' ").split()
        if new and new[0] == "'S":
            words[-1] += new.pop(0)
        if path and path[0] in ENTITIES:
            slots.append(
                {"entity": path[0], "value": " ".join(new), "first_word": len(words), "end_word": len(words) + len(new)}
            )
        words += new
    return Sentence(spoken, tuple(words), intent, slots)


def draw_sentence(rng: np.random.Generator) -> Sentence:
    """Draw one utterance: a command (40 %), a plain sentence (36 %), connected digits (12 %) or loose words (12 %).

    Args:
        rng: where all choices come from; the same state gives the same sentence.

    Returns:
        Text, transcript, intent and slots.
    """
    kind = rng.random()
    if kind < 0.15:
        (action, thing), templates = list(_PLACE_COMMANDS.items())[rng.integers(len(_PLACE_COMMANDS))]
        template = templates[rng.integers(len(templates))]
        place = int(rng.integers(len(_LOCATIONS) + 1))
        if place == len(_LOCATIONS):
            return _sentence(template, f"{action}_{thing}", rng)
        location, word = _LOCATIONS[place]
        sentence = _sentence(f"{template} in the {word}", f"{action}_{thing}_{location}", rng)
        count = len(sentence.words)
        slot: dict[str, str | int] = {
            "entity": "room",
            "value": word.upper(),
            "first_word": count - 1,
            "end_word": count,
        }
        return sentence._replace(slots=[slot])
    if kind < 0.40:
        intent = list(_COMMANDS)[rng.integers(len(_COMMANDS))]
        return _sentence(_COMMANDS[intent][rng.integers(len(_COMMANDS[intent]))], intent, rng)
    if kind < 0.76:
        intent = "statement" if rng.random() < 0.75 else "question"
        template = _PLAIN[intent][rng.integers(len(_PLAIN[intent]))]
        if rng.random() < 0.25:
            template += " " + _PLAIN["statement"][rng.integers(len(_PLAIN["statement"]))]
        return _sentence(template, intent, rng)
    if kind < 0.88:
        digits = rng.choice(DIGITS, size=int(rng.integers(1, 8)))
        # A comma now and then, as people say telephone numbers.
        text = "".join(digit + (", " if rng.random() < 0.2 else " ") for digit in digits)
        return _sentence(text.strip(" ,"), "digits", rng)
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 6))
    return _sentence(", ".join(rng.choice(_LOOSE, size=count)), "words", rng)
