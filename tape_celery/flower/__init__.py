"""The *Effects* tab of Flower: what the store knows of effects, runs and connectors, and the acts of people.

`starting` puts it into Flower, `access` says who may do what, `handler` is what the four pages share, `acts` what their
forms do, `history` and `wording` how journals, texts from outside and instants are shown, `trouble` what is said when
something is wrong. Of Flower nothing is copied: its
templates, its login, its theme and its URL prefix are used as they are.
"""
