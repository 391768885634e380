"""Lexicons: lists of names of persons and places, in English and Chinese, for templates and for noise.

No entry is also a common word (no Nice, Reading, Rose or Mark), so that it can be found in a text in any case.
"""

from __future__ import annotations

from collections.abc import Mapping

Groups = tuple[tuple[str, ...], ...]  # entries that may stand for each other: a woman's name for a woman's

FEMALE = (
    "Olga", "Amina", "Ingrid", "Yuki", "Fatima", "Chloe", "Priya", "Elena", "Nkechi", "Hannah", "Leila", "Zofia",
    "Aisha", "Camila", "Emily", "Noémie", "Xiomara", "Katarzyna",
)  # fmt: skip
MALE = (
    "Ahmed", "Kofi", "Hiroshi", "Ivan", "Mateus", "Rajesh", "Tomasz", "Omar", "Pierre", "Samuel", "Giorgos", "Thabo",
    "Daniel", "Viktor", "Oliver", "André", "Joaquín", "Anders",
)  # fmt: skip
LAST = (
    "Tanaka", "Okafor", "Haddad", "Johansson", "Kowalczyk", "Nguyen", "Rossi", "Sharma", "Dubois", "Fernández",
    "Papadopoulos", "Novak", "Müller", "Andersson", "O'Connor", "Mbeki", "Ivanov", "Yamamoto",
)  # fmt: skip
PLACES = (
    "Lisbon", "Oslo", "Nairobi", "Toronto", "Osaka", "Kraków", "Bogotá", "Melbourne", "Chicago", "Hamburg", "Lyon",
    "Seville", "Mumbai", "Cairo", "Dublin", "Vilnius", "Accra", "Hanoi", "Quito", "Zagreb",
)  # fmt: skip
COUNTRIES = (
    "Portugal", "Norway", "Kenya", "Canada", "Japan", "Poland", "Colombia", "Australia", "Germany", "France", "Spain",
    "India", "Egypt", "Ireland", "Lithuania", "Ghana", "Vietnam", "Ecuador", "Croatia", "Brazil",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
NUMBERS = ("3847", "52960", "774", "69382", "4475", "938", "28563", "6640", "857", "73925")
FEMALE_ZH = ("王秀英", "李雅婷", "张晓燕", "刘思琪", "陈丽娜", "杨淑芬", "赵雨桐", "黄美玲")
MALE_ZH = ("王建国", "李志强", "张伟杰", "刘德胜", "陈俊豪", "杨国栋", "赵子轩", "黄家伟")
PLACES_ZH = ("北京", "上海", "广州", "深圳", "成都", "杭州", "武汉", "西安", "南京", "重庆", "青岛", "昆明", "哈尔滨")

NAME_GROUPS: Groups = (FEMALE, MALE, LAST, FEMALE_ZH, MALE_ZH)
PLACE_GROUPS: Groups = (PLACES, COUNTRIES, PLACES_ZH)

FIRST = tuple(one for pair in zip(FEMALE, MALE, strict=True) for one in pair)

LEXICONS: Mapping[str, tuple[str, ...]] = {
    "name": tuple(f"{first} {LAST[i % len(LAST)]}" for i, first in enumerate(FIRST)),
    "first_name": FIRST,
    "last_name": LAST,
    "place": PLACES,
    "country": COUNTRIES,
    "day": DAYS,
    "month": MONTHS,
    "number": NUMBERS,
    "name_zh": tuple(one for pair in zip(FEMALE_ZH, MALE_ZH, strict=True) for one in pair),
    "place_zh": PLACES_ZH,
}  # those that every suite has, by the name of their slot
