#include "fovea/tasks/words.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>

#include "fovea/base/check.h"

namespace fovea::tasks {
namespace {

std::vector<std::string> split(const char* text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

}  // namespace

const std::vector<std::string>& adjectives() {
  static const auto words = split(
      "amber ancient bitter blue bold brass brisk broad bronze calm cheap clean clever coarse cold copper crisp "
      "crooked "
      "curious damp dark deep dim dry dusty eager early empty faint fine firm flat fragile fresh gentle golden grand "
      "green grey hollow honest humble idle iron ivory jolly keen lazy lean lively lonely loud lucky mellow mild "
      "modest "
      "narrow neat noble odd pale patient plain polite proud quick quiet rapid rare red rough round rusty salty "
      "scarlet "
      "shallow sharp short shy silent silver simple slim slow smooth soft sour steep stern stiff strange strong sturdy "
      "sweet tall tame tender thin tidy tiny vast violet warm weary white wide wild wise wooden young");
  return words;
}
const std::vector<std::string>& nouns() {
  static const auto words = split(
      "anchor apron arrow barrel basket bell bench blanket boat bolt book boot bottle bowl bracelet branch bridge "
      "broom "
      "brush bucket button cabin cable candle canvas carpet cart cellar chain chair chart chest chimney clock cloth "
      "coin compass cord cradle crate crown cup curtain cushion desk dial door drawer drum engine fence fiddle flag "
      "flask flute forge fork fountain frame garden gate glove hammer harbor harp hat hinge hook horn jacket jar "
      "kettle "
      "key kite ladder lamp lantern latch ledger lever lock loom magnet mantle map mask mast mirror needle net oar "
      "oven "
      "paddle painting pan parcel path pebble pen piano pillar pillow pipe pitcher plank plate plough pocket pot "
      "pulley "
      "purse quill rail ribbon ring rope rudder saddle sail scarf shelf shovel sled spade spoon stable stool stove "
      "sword table tent thread tile torch tower tray trumpet tunnel umbrella vase violin wagon wall well wheel whistle "
      "window");
  return words;
}
const std::vector<std::string>& trades() {
  static const auto words = split(
      "baker barber brewer butcher carpenter clerk cobbler cook dyer farmer ferryman fisherman gardener glazier "
      "goldsmith hunter innkeeper joiner judge mason merchant midwife miller miner nurse painter peddler pilot plumber "
      "porter potter printer roofer sailor shepherd singer surgeon tailor tanner teacher tinsmith weaver");
  return words;
}
const std::vector<std::string>& first_names() {
  static const auto words = split(
      "Abel Agnes Alma Anton Bela Bruno Carla Cyril Dora Edgar Elsa Emil Esther Felix Flora Greta Gustav Hanna Hector "
      "Hilda Hugo Ida Irma Ivan Jonas Julia Karl Klara Leo Lena Lorenz Marta Max Mina Nadia Nils Nora Olga Oscar Otto "
      "Paula Petra Ralph Rosa Rufus Sara Silas Sofia Stefan Thea Theo Ursula Viktor Wanda Xaver Yvonne Zita");
  return words;
}
const std::vector<std::string>& family_names() {
  static const auto words = split(
      "Abbot Albrecht Amsel Barlow Becker Bramble Castell Corvin Dalton Delmar Dietrich Eberly Ellison Fabian Falk "
      "Farrow Gallo Gellert Haldane Harrow Hollis Ibsen Jansen Jarvis Keller Kessler Landry Lindt Lorimer Marlow "
      "Mercer "
      "Molnar Nagel Novak Oakley Orlov Pascal Pickett Quist Radley Renner Rowan Sandor Selby Sorrel Tarkin Thorne "
      "Ulrich "
      "Vance Varga Wexler Winslow Yarrow Zeller");
  return words;
}
const std::vector<std::string>& towns() {
  static const auto words = split(
      "Aldermoor Ashby Birkenau Brackwell Carrow Colmar Dunmere Eastvale Elmstead Fairholt Felden Glenmore Grauburg "
      "Haverick Holmgard Inverley Kingsrow Krasna Langport Lindow Marbeck Millbrook Montrose Neuhof Northam Oldport "
      "Ostrava Penwick Quarrington Ravensby Redford Rosenau Saltmarsh Seaford Silvan Stonebury Thornwick Tolna Upwell "
      "Velmont Verlin Wexmoor Whitcombe Windle Yarmouth Zellbach");
  return words;
}
const std::vector<std::string>& foods() {
  static const auto words = split(
      "almonds apples barley beans bread butter cabbage carrots cheese cherries chestnuts dates figs garlic ginger "
      "grapes herring honey lentils mushrooms mustard oats olives onions oranges peaches pears pepper plums pumpkins "
      "quinces raisins rice salmon turnips walnuts");
  return words;
}
const std::vector<std::string>& months() {
  static const auto words =
      split("January February March April May June July August September October November December");
  return words;
}

std::vector<std::string> some_of(std::vector<std::string> words, size_t n, Rng& rng) {
  FOVEA_CHECK(n <= words.size(), "some_of: {} of {} words", n, words.size());
  shuffle(words, rng);
  words.resize(n);
  return words;
}

std::vector<std::string> draw_keys(size_t n, Rng& rng) {
  std::set<std::string> seen;
  std::vector<std::string> out;
  while (out.size() < n) {
    std::string key = one_of(adjectives(), rng) + "-" + one_of(nouns(), rng);
    if (seen.insert(key).second) out.push_back(std::move(key));
  }
  return out;
}

std::vector<std::string> draw_numbers(size_t n, int digits, Rng& rng) {
  std::set<std::string> seen;
  std::vector<std::string> out;
  while (out.size() < n) {
    std::string number(1, static_cast<char>('1' + rng.below(9)));
    while (number.size() < static_cast<size_t>(digits)) number += static_cast<char>('0' + rng.below(10));
    if (seen.insert(number).second) out.push_back(std::move(number));
  }
  return out;
}

std::string enumerate(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " and " : ", ";
    out += words[i];
  }
  return out;
}

}  // namespace fovea::tasks
